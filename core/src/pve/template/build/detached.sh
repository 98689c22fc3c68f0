# Starts the script W in the background, and waits until it is known to have begun: F is its folder, S its seconds.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
[ ! -e "$F" ] || exit 0
w=$(mktemp /run/pve-edge-work.XXXXXX) && printf '%s\n' "$W" >"$w" || { echo 'no script can be written to /run'; exit 1; }
set -- sh "$w"
! command -v timeout >/dev/null || set -- timeout "$S" "$@"
if ! { [ -d /run/systemd/system ] && systemd-run --quiet --collect --no-block -- "$@"; } >/dev/null 2>&1; then
  if command -v setsid >/dev/null; then setsid "$@" </dev/null >/dev/null 2>&1 &
  else (trap '' HUP; exec "$@") </dev/null >/dev/null 2>&1 &
  fi
fi
n=0; until [ -e "$F/pid" ] || [ $n -ge 150 ]; do sleep 0.1 || sleep 1; n=$((n + 1)); done
rm -f "$w"
[ -e "$F/pid" ] || { echo 'it could not be begun: is the disk full?'; exit 1; }
