tell() {
    printf '%s\n' "$@" >&2
}

die() {
    tell "$self: $*"
    exit 1
}

consent() {
    [ -z "$yes" ] || return 0
    if [ -t 0 ]; then
        printf 'Do it? [y/N] ' >&2
        read -r answer || answer=''
    elif (: </dev/tty) 2>/dev/null; then
        # The script itself may come on standard input.
        printf 'Do it? [y/N] ' >&2
        read -r answer </dev/tty || answer=''
    else
        die 'there is no terminal to ask on, and nothing was changed: add --yes'
    fi
    case $answer in
        y | Y | yes) ;;
        *) die 'nothing was changed' ;;
    esac
}
