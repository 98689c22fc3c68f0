# Tells how the work in the folder F stands.
s=none
if [ -d "$F" ]; then
  s=starting
  if [ -e "$F/code" ]; then s=exited
  elif [ -e "$F/pid" ]; then
    s=lost; read -r p b t <"$F/pid"
    read -r n </proc/sys/kernel/random/boot_id 2>/dev/null || n=-
    if [ "$n" = "$b" ]; then
      s=exited; [ "$(cut -d ' ' -f 22 "/proc/$p/stat" 2>/dev/null)" != "$t" ] || s=running
    fi
  elif [ -n "$(find "$F" -prune -mmin +1 2>/dev/null)" ]; then s=lost
  fi
fi
echo $s
