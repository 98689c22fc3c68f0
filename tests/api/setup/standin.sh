#!/bin/sh
# Stands for pveum and pvesh of a node: keeps in the folder $PVE_STATE what it is told, answers as they do, and notes
# each call. What $PVE_FAILS names fails.
set -eu
cd "$PVE_STATE"
program=${0##*/}
printf '%s\n' "$program $*" >>calls
case "$program $*" in
    "${PVE_FAILS:-nothing}"*)
        echo 'cluster not ready - no quorum?' >&2
        exit 255
        ;;
esac

die() {
    echo "$*" >&2
    exit 255
}

# Texts of lines as a JSON list.
list() {
    printf '[%s]\n' "$(paste -sd , -)"
}

# Privileges become those of a role, as far as this version knows them.
add_privileges() {
    for it in $2; do
        grep -qx "$it" known || die "invalid privilege '$it'"
        grep -qx "$it" "roles/$1" || echo "$it" >>"roles/$1"
    done
}

case "$program $1 $2" in
    'pvesh get /access/roles')
        {
            echo "{\"privs\":\"$(paste -sd , known)\",\"roleid\":\"Administrator\",\"special\":1}"
            for role in roles/*; do
                [ ! -e "$role" ] || echo "{\"privs\":\"$(paste -sd , "$role")\",\"roleid\":\"${role#roles/}\",\"special\":0}"
            done
            echo '{"privs":"","roleid":"NoAccess","special":1}'
        } | list
        ;;
    'pvesh get /access/acl')
        while IFS='|' read -r path propagate role kind who; do
            echo "{\"path\":\"$path\",\"propagate\":$propagate,\"roleid\":\"$role\",\"type\":\"$kind\",\"ugid\":\"$who\"}"
        done <acl | list
        ;;
    'pvesh get /access/users/'*/token/*)
        token=${2#/access/users/}
        token=tokens/${token%%/*}!${2##*/}
        [ -e "$token" ] || die 'no such token'
        echo "{\"expire\":0,\"privsep\":$(cat "$token")}"
        ;;
    'pvesh get /access/users/'*)
        [ -e "users/${2##*/}" ] || die "no such user ('${2##*/}')"
        echo '{"enable":1,"expire":0,"tokens":{}}'
        ;;
    'pvesh get /storage') cat storages ;;
    'pvesh get /cluster/sdn/vnets') cat vnets ;;
    'pvesh get /nodes/'*/network) grep "\"type\":\"$4\"" bridges | list ;;
    'pveum role add')
        [ ! -e "roles/$3" ] || die "create role failed: role '$3' already exists"
        : >"roles/$3"
        add_privileges "$3" "$5"
        ;;
    'pveum role modify')
        [ -e "roles/$3" ] || die "update role failed: role '$3' does not exist"
        [ "$4 $5" = '--append 1' ] || : >"roles/$3"
        for privileges; do :; done
        add_privileges "$3" "$privileges"
        ;;
    'pveum user add')
        [ ! -e "users/$3" ] || die "create user failed: user '$3' already exists"
        : >"users/$3"
        ;;
    'pveum user token')
        token=tokens/$4!$5
        case $3 in
            add)
                [ -e "users/$4" ] || die "no such user ('$4')"
                [ ! -e "$token" ] || die "400 Parameter verification failed. tokenid: Token already exists."
                echo "$7" >"$token"
                echo made >>secrets
                secret=7f5ab1d0-0000-4000-8000-00000000000$(($(wc -l <secrets)))
                echo "{\"full-tokenid\":\"$4!$5\",\"info\":{\"privsep\":\"$7\"},\"value\":\"$secret\"}"
                ;;
            modify)
                [ -e "$token" ] || die 'no such token'
                echo "$7" >"$token"
                ;;
            remove)
                rm "$token"
                # As soon as the file of users is read again.
                grep -vF "|token|$4!$5" acl >acl.new || :
                mv acl.new acl
                ;;
        esac
        ;;
    'pveum acl modify')
        path=$3 user='' token='' role='' propagate=1
        shift 3
        while [ "$#" -gt 0 ]; do
            case $1 in
                --users) user=$2 ;;
                --tokens) token=$2 ;;
                --roles) role=$2 ;;
                --propagate) propagate=$2 ;;
                *) die "Unknown option: $1" ;;
            esac
            shift 2
        done
        [ -e "roles/$role" ] || die "role '$role' does not exist"
        [ -z "$user" ] || [ -e "users/$user" ] || die "user '$user' does not exist"
        [ -z "$token" ] || [ -e "tokens/$token" ] || die "no such token '$token'"
        for line in "$path|$propagate|$role|user|$user" "$path|$propagate|$role|token|$token"; do
            case $line in *'|') continue ;; esac
            grep -qxF "$line" acl || echo "$line" >>acl
        done
        ;;
    *) die "ERROR: unknown command '$program $*'" ;;
esac
