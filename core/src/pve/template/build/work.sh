# Builds a template, as root, once: F is its folder, A where those of all builds are, O says that it is over, R is the user's script; the packages are the
# arguments.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; umask 022
mkdir -p "${F%/*}"
# What another build has left, from which this template was copied, says nothing of this one.
[ "$F" = "$A" ] || for d in "$A"/*; do [ "$d" = "$F" ] || rm -rf "$d"; done
# One that was begun before may have run anything.
mkdir -m 700 "$F" || exit 75
{ read -r b </proc/sys/kernel/random/boot_id; s=$(cut -d ' ' -f 22 /proc/$$/stat); } 2>/dev/null
# This one came late: the build of this start is over.
o=; [ ! -e "$O" ] || read -r o <"$O"
[ -z "$o" ] || [ "$o" != "$b" ] || { rm -rf "$F"; exit 75; }
echo "$$ ${b:--} ${s:--}" >"$F/pid.t"; mv "$F/pid.t" "$F/pid"
[ -n "$HOME" ] || HOME=/root; export HOME
cd / || exit
exec >"$F/log" 2>&1 </dev/null
# Each has its place from the beginning: what is built may leave none.
for n in step code; do printf %099d 1 >"$F/$n.t"; done
tell() { echo "$2" 1<>"$F/$1.t"; mv "$F/$1.t" "$F/$1"; }
step() { tell step "$1"; printf %099d 1 >"$F/step.t"; }
end() { tell code "$1"; exit "$1"; }
has() { command -v "$1" >/dev/null 2>&1; }
routed() {
  grep -q '^[^[:space:]]*[[:space:]]*00000000[[:space:]]' /proc/net/route ||
    grep '^00000000000000000000000000000000 00 ' /proc/net/ipv6_route | grep -qv ' lo$'
} 2>/dev/null
install() {
  if has apt-get; then
    DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
    apt-get -q update && apt-get -qy install "$@"
  elif has apk; then apk add "$@"
  elif has dnf; then dnf -y install "$@"
  elif has yum; then yum -y install "$@"
  elif has zypper; then zypper -n install "$@"
  elif has pacman; then pacman -Sy --noconfirm --needed "$@"
  else echo 'there is no apt-get, apk, dnf, yum, zypper or pacman here'; return 1
  fi
}
step packages
n=0; until routed || [ $n -ge 60 ]; do sleep 1; n=$((n + 1)); done
if [ $# -gt 0 ]; then
  # A network that has just come up may not have all yet.
  n=0; until install "$@"; do n=$((n + 1)); [ $n -lt 3 ] || end 1; sleep 2; done
fi
step running
if [ -n "$R" ]; then
  printf '%s\n' "$R" >"$F/run"
  cd "$HOME" 2>/dev/null
  if has bash; then bash "$F/run"; else sh "$F/run"; fi
  r=$?; cd /; [ $r = 0 ] || end $r
fi
end 0
