# The hub serves processes of this guest over its console, on whose raw terminal each request and each reply is a line.
# All that it tells is in files, so that everything may be asked again. H is the version, which the edge sets.
[ -n "$w" ] && kill -KILL $w 2>/dev/null
LC_ALL=C; export LC_ALL; umask 077
# Without it the hub cannot work: it ends when that was heard.
lacks() { printf '@- lacks %s . - lacks %s\n' $1 $1; sleep 1; exit; }
out() { dd ibs=8192 obs=65536 2>/dev/null; }
say() { printf '@%s . %s\n' "$*" "$*" | out; }
sum() { set -- $(sha256sum); s=${1%"${1#????????????????}"}; }
for c in base64 dd fold head mkfifo sha256sum sleep stty tail tr wc; do command -v $c >/dev/null || lacks $c; done
S=; setsid true 2>/dev/null && S=setsid; export S
# A shell ignores INT and QUIT in the background, and what it starts there too.
E=; env --default-signal=INT,QUIT true 2>/dev/null && E='env --default-signal=INT,QUIT'
# Of all starts of the guest, this one: what was begun before it is gone.
read -r l </proc/1/stat; set -- ${l##*) }
B=$(printf %s "$(cat /proc/sys/kernel/random/boot_id).${20}" | sha256sum | head -c 32)
# All hubs of one start have the same folder, or a name would be given twice: one that is there comes first.
fits() { R=$1/pve-edge-console; [ -n "$2" ] || mkdir -p "$R" 2>/dev/null; [ ! -L "$R" ] && [ -O "$R" ] && [ -w "$R" ]; }
f=; D=${PVE_EDGE_RUN:-/run /dev/shm /tmp}
for d in $D; do l=; fits $d old && [ -e $R/boot ] && read -r l <$R/boot; [ "$l" = $B ] && { f=1; break; }; done
[ -n "$f" ] || for d in $D; do fits $d && { f=1; break; }; done
[ -n "$f" ] && cd "$R" || lacks room
l=; [ -e boot ] && read -r l <boot; [ "$l" = $B ] || { rm -rf ./*; echo $B >boot; read -r l <boot; [ "$l" = $B ] || lacks room; }
# The keeper of one process, which outlives the hub. Its arguments are milliseconds, the kind of standard input, and the
# bytes that are kept of each output. One that runs reads on in its file. What it tells at the end has its place from the
# beginning, because the output may leave none.
keeper() { cat >k.$$ && mv k.$$ keeper.$H || { rm -f k.* spare; false; }; }
for l in 1 2; do [ -s keeper.$H ] || keeper <<'K'
pump() {
  sh -c 'echo $$ >"h$0"; trap "" XFSZ; ulimit -f $(($1 / 512)); exec cat' $1 $2 >$1 || { [ $(wc -c <$1) -ge $2 ] && mv n$1 m$1; } || true >full
  sh -c 'echo $$ >"h$0"; exec wc -c' $1 1<>l$1.t; mv l$1.t l$1
}
drained() {
  p=; read -r p <h$1 || return; l=; read -r l </proc/$p/stat || { [ -e l$1 ]; return; }
  case ${l##*) } in [SX]*) ;; *) return 1;; esac
}
feed() {
  exec 5>pi; n=0
  while read -r w <&6; do
    s=$(wc -c <i); [ $s -gt $n ] && { tail -c +$((n + 1)) i | head -c $((s - n)) >&5 || break; }
    n=$s; [ "$w" = end ] && break
  done
  true >closed
}
exec 2>/dev/null
# A hub that finds it not begun has given it up.
rm -f room; mkdir go/on || { [ -e go/on ] || echo lost >kp; exit; }; for f in x.t lo.t le.t no ne; do printf %099d 1 >$f; done
echo $$ >kp; date +%s >t; true >o; true >e; mkfifo po pe
pump o $3 <po & pump e $3 <pe &
i=/dev/null
case $2 in i) i=i;; s) i=pi; mkfifo pi q; [ -e i ] || true >i; exec 6<>q; feed & exec 6>&-;; esac
w=; [ $1 -gt 0 ] && { $S sh -c 'sleep $0 || sleep $((${0%.*} + 1)); until [ -s pid ] || [ -e over ] || [ ! -e c ]; do sleep 0.01 || sleep 1; done
[ ! -e over ] && read -r p <pid || exit; echo timeout >why; kill -KILL -$p || kill -KILL $p' $(($1 / 1000)).$(printf %03d $(($1 % 1000))) & w=$!; }
( exec <$i >po 2>pe; exec $S sh -c 'echo $$ >pid && exec sh ./c; exit 126' ); r=$?; true >over
n=0; until drained o && drained e || [ $n -ge 500 ] || [ ! -e c ]; do sleep 0.01 || sleep 1; n=$((n + 1)); done
[ -n "$w" ] && { kill -KILL -$w || kill -KILL $w; }
y=-; [ -s pid ] && [ ! -e full ] || y=full; [ -s why ] && read -r y <why
o=$(wc -c <o); e=$(wc -c <e); a=0; b=0
# What was read and not written any more is not counted: a byte stands for it.
[ $o -ge $3 ] && { a=1; [ -e lo ] && read -r a <lo; [ ! -e mo ] || a=$((a + 1)); }
[ $e -ge $3 ] && { b=1; [ -e le ] && read -r b <le; [ ! -e me ] || b=$((b + 1)); }
until echo $r $o $e $y $a $b 1<>x.t || [ ! -e c ]; do sleep 1; done; mv x.t x
[ $2 = s ] && { true >closed; echo end 1<>q; }
K
done
[ -s keeper.$H ] || lacks room
# What a hub was ended at before its keeper began is begun by nobody any more.
for d in */c; do
  [ -e $d ] || continue; D=${d%c}; rmdir ${D}wb 2>/dev/null
  [ ! -e ${D}go ] || [ -s ${D}kp ] || { mkdir ${D}go/on 2>/dev/null; echo lost >${D}kp; }
done
[ -s spare ] || head -c 262144 /dev/zero >spare
sizes() { set -- $(wc -c o e 2>/dev/null); a=${1:-0} b=${3:-0}; }
frames() { # output, from where, how many, and where it ends
  k=$2; n=$(($3 * 3000)); [ $(($4 - $2)) -ge $n ] || n=$(($4 - $2))
  [ $n -gt 0 ] && tail -c +$(($2 + 1)) $1 | head -c $n | base64 | tr -d '\n' | fold -w 4000 | while read -r d || [ -n "$d" ]; do
    n=$((${#d} / 4 * 3)); case $d in *==) n=$((n - 2));; *=) n=$((n - 1));; esac
    printf '@%s %s %s %s %s %s\n' $id $1 $k $n "$d" $id.$1.$k.$n | out; k=$((k + n))
  done
}
is_over() { [ -s x ] || { p=; read -r p <kp; [ -n "$p" ] && ! kill -0 $p && [ ! -s x ]; } 2>/dev/null; }
tell() { # follower, number of its request, from where and how many frames of each output, milliseconds to wait for more
  echo $2 >f.$1; t=0 d=10
  while sizes; ! is_over && [ $a -le $3 ] && [ $b -le $5 ] && [ $t -lt $7 ] && { [ $4 -gt 0 ] || [ ! -s pid ]; }; do
    sleep 0.$(printf %03d $d) || sleep 1
    t=$((t + d)); d=$((d < 160 ? d * 2 : 160)); l=$2; [ -s f.$1 ] && read -r l <f.$1; [ "$l" = $2 ] || return
  done
  x=+; is_over && { sizes; x=lost; [ -s x ] && read -r x <x && read -r _ a b _ <x; }
  p=0; [ -e pid ] && read -r p <pid
  frames o $3 $4 $a; frames e $5 $6 $b
  say $id s $2 $p $a $b $x
}
# What nobody asks for any more goes when it was seen twice, a quarter of an hour apart: no start is sent again by then.
runs() { p=; [ -s $1/x ] || { [ -e $1/kp ] && read -r p <$1/kp; }; [ -n "$p" ] && kill -0 $p; }
sweep() {
  g=; ls -td */keep | tail -n +1025 | while read -r D; do runs ${D%/keep} || rm -f $D; done
  n=; read -r n l </proc/uptime; n=${n%.*}; [ -n "$n" ] || return
  for D in */; do
    D=${D%/}; [ -d $D ] && [ ! -e $D/keep ] || continue
    g=1
    if runs $D; then rm -f $D/old
    elif [ -s $D/old ]; then read -r l <$D/old; [ $((n - l)) -lt 900 ] || rm -rf $D
    else echo $n >$D/old; fi
  done
}
# The cleaner of the last hub alone tidies up. It ends the hub when that is quiet, and goes on while something is left.
echo $$ >hub
( trap '' HUP; h=1 q=0 m=0; true >beat.$$
  while sleep 5; do
    l=; read -r l <hub; [ "${l:-$$}" = $$ ] || break
    [ -n "$h" ] && kill -0 $$ || h=
    if [ -e beat.$$ ]; then rm -f beat.$$; q=0; else q=$((q + 1)); fi
    [ -z "$h" ] || [ $q -lt 12 ] || [ -e beat.$$ ] || { kill -KILL $$; h=; }
    m=$((m + 1)); [ $m -lt 12 ] || { m=0; sweep; [ -n "$h$g" ] || break; }
  done; rm -f beat.$$ ) </dev/null >/dev/null 2>&1 &
stty raw -echo icrnl 2>/dev/null; say - ready $H $B
# What was told to its end stays for those who were cut off meanwhile: the last four, while there is room.
free() { for D in $y; do ( cd $D && rm -rf [!g]* ); done; y=; rm -f spare; }
piece() { mkdir -p $1 && printf %s "$4" | base64 -d | dd of=$1/$2 bs=2048 seek=$3 conv=notrunc 2>/dev/null; }
z= y=
dd bs=8192 2>/dev/null | while IFS= read -r line; do
  case $line in
  '#'*) z=;;
  '') [ -n "$z" ] || { z=1; continue; }; printf 'pve-edge runs commands here; the console is yours a minute after the last one\r\n'; continue;;
  *) z=1; continue;;
  esac
  set -f; set -- $line; set +f; id=${1#?} op=$2
  case $id in *[!a-z0-9]* | '') continue;; esac
  case $op in
  put | run) b=${line% *}; s=; sum <<:
$b
:
    [ "${line##* }" = "$s" ] || continue;;
  *) b=${line#?}; [ "${b%% . *}" = "${b##* . }" ] || continue;;
  esac
  true >beat.$$
  case $op in
  hi) say $id hi $H $B;;
  turn) say $id turn $3;;
  put) # c or i, which piece, text
    case $3 in c | i) ;; *) continue;; esac
    [ -e $id/go ] || piece $id $3 $4 $5 || { free; piece $id $3 $4 $5; } || { say $id full; continue; }
    say $id put $3 $4;;
  run) # sums of c and i, milliseconds, kind of standard input, most output, whether it is kept
    mkdir -p $id
    # It is refused for good: the same request may come once more.
    if [ -e $id/refused ]; then say $id full
    elif mkdir $id/go 2>/dev/null; then
      s=; sum <$id/c; k=$s; s=-; [ $6 = i ] && sum <$id/i
      if [ $k.$s != $3.$4 ]; then rmdir $id/go; rm -f $id/c $id/i; say $id run bad
      elif ! printf %49152s . >$id/room && { free; ! printf %49152s . >$id/room; }; then rm -f $id/room; mv $id/c $id/refused; say $id full
      else
        [ $8 = 1 ] && true >$id/keep
        ( cd $id && { [ -n "$S" ] || trap '' HUP; exec $E $S sh ../keeper.$H $5 $6 $7 </dev/null >/dev/null 2>&1; } ) &
        ( n=0; until [ -s $id/kp ] || [ $n -ge 500 ]; do sleep 0.005 || sleep 1; n=$((n + 1)); done; say $id run new ) &
      fi
    elif [ -e $id/go ]; then say $id run old
    else mv $id/c $id/refused; free; say $id full; fi;;
  p) if [ -e $id/go ] && [ -e $id/c ]; then rm -f $id/old; ( cd $id && tell $3 $4 $5 $6 $7 $8 $9 ) & else say $id none; fi;;
  bye) # what is left proves that it was run
    [ -s $id/x ] || continue
    if [ $3 = . ]; then ( cd $id && rm -rf [!g]* )
    else case " $y " in *" $id "*) continue;; esac; set -- $y $id
      [ $# -le 4 ] || { ( cd $1 && rm -rf [!g]* ); shift; }; y="$*"
    fi;;
  forget) # whatever room there is
    [ -e $id/c ] || { say $id none; continue; }
    ( cd $id && {
      p=; read -r p <pid; [ -s x ] || [ -z "$p" ] || kill -KILL -$p || kill -KILL $p
      n=0; until [ -s x ] || [ $n -ge 100 ]; do sleep 0.02 || sleep 1; n=$((n + 1)); done
      rm -rf [!g]*
    } 2>/dev/null; say $id gone ) &;;
  quit) say $id quit; kill -KILL $$;;
  esac
done
