#!/bin/sh
# Prepares Proxmox VE for pve-edge: a user, its API token with privilege separation, and roles with the privileges that
# pve-edge needs and no others, given to both. Run it as root on one node of PVE 7.4, 8 or 9:
#
#   sh pve.sh                   prints what it will do, asks, and does it
#   sh pve.sh --yes             does not ask
#   sh pve.sh --storage NAME    this storage; without one, all that hold disks of guests. May be given again
#   sh pve.sh --bridge NAME     this bridge or vnet; without one, all bridges of this node. May be given again
#   sh pve.sh --vms             for virtual machines too
#   sh pve.sh --archives NAME   for templates that the API makes from nothing, with their archives on this storage
#   sh pve.sh --new-secret      gives the token a new secret, and its old one ends; it keeps roles, expiry and comment.
#                               Nothing else is done, unless the token has no role at all
#
# It does what is missing and takes nothing away, so it may be run again. It writes no file. The secret of a token that
# it makes is printed on standard output, once; everything else is printed on standard error.

main() {
    set -eu
    # SETTINGS
    yes='' new_secret='' archives=''
    read_words "$@"
    for it in pveum pvesh; do
        command -v "$it" >/dev/null || die "this is no node of PVE: it has no $it"
    done
    look
    steps=$(plan)
    if [ -z "$steps" ]; then
        tell 'Everything is there: nothing is to be done.'
        tell_secret
        return 0
    fi
    tell 'This will be done:' '' "$steps" ''
    consent
    take_steps
    if renews && [ -n "$has_roles" ]; then
        tell "Done. $user!$token has the roles that it had."
    else
        tell "Done. $user!$token has what pve-edge needs."
    fi
    tell_secret
}

read_words() {
    while [ "$#" -gt 0 ]; do
        case $1 in
            --yes) yes=yes ;;
            --vms) vms=yes ;;
            --new-secret) new_secret=yes ;;
            --storage | --bridge | --archives)
                case ${2-} in
                    '' | -* | *[!A-Za-z0-9._-]*) die "$1 needs a name as PVE shows it" ;;
                esac
                case $1 in
                    --storage) storages="$storages $2" ;;
                    --bridge) bridges="$bridges $2" ;;
                    --archives) archives=$2 ;;
                esac
                shift
                ;;
            *) die "$1 is no word of this: --yes, --storage, --bridge, --vms, --archives, --new-secret" ;;
        esac
        shift
    done
}

# --- What is there

# Reads what PVE has. A read that may fail where nothing is there yet sets nothing.
look() {
    roles=$(ask_pve /access/roles)
    acls=$(ask_pve /access/acl)
    # PVE's own role with all privileges that this version knows.
    known=$(privileges_of Administrator)
    [ -n "$known" ] || die 'PVE tells no privileges of its role Administrator'
    has_user='' has_token='' is_separated='' has_roles='' expire='' comment=''
    ! pvesh get "/access/users/$user" --output-format json >/dev/null 2>&1 || has_user=yes
    [ -n "$has_user" ] || return 0
    seen=$(pvesh get "/access/users/$user/token/$token" --output-format json 2>/dev/null) || return 0
    has_token=yes
    case $seen in *'"privsep":1'* | *'"privsep":"1"'*) is_separated=yes ;; esac
    # Without separation it has what its user has.
    if [ -z "$is_separated" ] || [ -n "$(token_rows)" ]; then has_roles=yes; fi
    expire=$(printf '%s\n' "$seen" | sed -n 's/.*"expire":"\{0,1\}\([0-9]*\).*/\1/p')
    comment=$(printf '%s\n' "$seen" | member comment)
}

ask_pve() {
    pvesh get "$@" --output-format json </dev/null || die "PVE does not tell: pvesh get $*"
}

# A JSON list, a line for each of its objects.
rows() {
    sed 's/},{/}\
{/g'
}

# What a member of a line is, where it is a text.
member() {
    sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"
}

# ACLs of the token.
token_rows() {
    printf '%s\n' "$acls" | rows | grep -F "\"ugid\":\"$user!$token\""
}

# Privileges of a role, as `,A,B,`; nothing where there is no such role.
privileges_of() {
    printf '%s\n' "$roles" | rows | grep -F "\"roleid\":\"$1\"" | member privs | sed 's/.*/,&,/'
}

knows() {
    case $known in *",$1,"*) return 0 ;; esac
    return 1
}

# Whether somebody has a role on a path, and below it.
has_role() {
    printf '%s\n' "$acls" | rows | grep -F "\"path\":\"$1\"" | grep -F "\"roleid\":\"$2\"" |
        grep -F "\"ugid\":\"$3\"" | grep -q '"propagate":"\{0,1\}1'
}

# --- What is to be done

# Whether the token that is there gets a new secret.
renews() {
    [ -n "$has_token" ] && [ -n "$new_secret" ]
}

# Prints the commands that are missing, a line each.
plan() {
    if renews; then
        renew || exit 1
        [ -z "$has_roles" ] || return 0
    fi
    # As a renewal leaves it that broke off: nobody knows any more what it had.
    [ -z "$has_token" ] || [ -n "$has_roles" ] ||
        tell "The token $user!$token has no role. It gets what a new one gets: for more, --vms and --archives."
    guests=$for_guests nodes=$for_nodes bridge_paths=''
    if [ -n "$vms" ]; then
        agent=$(first_known $for_agents) || exit 1
        guests="$guests $agent"
    fi
    if [ -n "$archives" ]; then
        nodes="$nodes $(for_fetching)"
    fi
    storages=$(guest_storages) || exit 1
    if knows "$for_bridges"; then
        bridge_paths=$(bridge_paths) || exit 1
    fi
    make_role Edge $guests
    make_role EdgeStorage $for_storages
    ! knows "$for_bridges" || make_role EdgeNetwork $for_bridges
    make_role EdgeNode $nodes
    [ -z "$archives" ] || make_role EdgeArchive $for_archives
    [ -n "$has_user" ] || echo "pveum user add $user --comment pve-edge"
    renews || make_token
    give Edge /vms
    for it in $storages; do
        give EdgeStorage "/storage/$it"
    done
    [ -z "$archives" ] || give EdgeArchive "/storage/$archives"
    for it in $bridge_paths; do
        give EdgeNetwork "$it"
    done
    give EdgeNode /nodes
}

# The first of these privileges that this version of PVE knows.
first_known() {
    for it; do
        ! knows "$it" || { echo "$it" && return 0; }
    done
    die "this PVE knows none of these privileges: $*"
}

# What a node needs to fetch archives, where that is a privilege by itself.
for_fetching() {
    if knows "$for_network"; then
        echo "$for_network"
    else
        tell "This PVE does not know $for_network: archives of an URL take Sys.Audit and Sys.Modify on /, which this gives" \
            'to nobody. Appliances of PVE need neither.'
    fi
}

# A role with at least these privileges.
make_role() {
    role=$1 missing='' more=''
    shift
    have=$(privileges_of "$role")
    for it; do
        knows "$it" || die "this PVE does not know the privilege $it"
        case $have in *",$it,"*) ;; *) missing="$missing $it" ;; esac
    done
    for it in $(echo "$have" | tr , ' '); do
        case " $* " in *" $it "*) ;; *) more="$more $it" ;; esac
    done
    [ -z "$more" ] || tell "The role $role is there and has more than pve-edge needs, which stays:$more"
    [ -n "$missing" ] || return 0
    case $roles in
        *"\"roleid\":\"$role\""*) echo "pveum role modify $role --append 1 --privs '${missing# }'" ;;
        *) echo "pveum role add $role --privs '${missing# }'" ;;
    esac
}

make_token() {
    if [ -z "$has_token" ]; then
        add_token
    elif [ -z "$is_separated" ]; then
        tell "The token $user!$token has all that its user may do. It loses that, and has what is given to it alone: do not" \
            'go on where something else uses it.'
        echo "pveum user token modify $user $token --privsep 1"
    fi
}

# The token, with the expiry and the comment of the one that was there.
add_token() {
    kept=''
    [ "${expire:-0}" = 0 ] || kept=" --expire $expire"
    case $comment in
        '') ;;
        *\\*) tell "The comment of $user!$token has characters that this script does not take, and is lost." ;;
        *) kept="$kept --comment '$(printf '%s\n' "$comment" | sed "s/'/'\\\\''/g")'" ;;
    esac
    printf '%s\n' "pveum user token add $user $token --privsep ${1-1}$kept --output-format json"
}

# A new secret for the token. An older PVE cannot put it in place: there the token goes, its roles with it, and all of
# them are given again, whoever gave them.
renew() {
    [ "${expire:-0}" = 0 ] || tell "The token $user!$token keeps its expiry, which date -d @$expire tells."
    usage=$(pvesh usage "/access/users/$user/token/$token" --command set --verbose </dev/null 2>/dev/null) || usage=''
    case $usage in
        *-regenerate*)
            echo "pveum user token modify $user $token --regenerate 1 --output-format json"
            return 0
            ;;
    esac
    echo "pveum user token remove $user $token"
    if [ -n "$is_separated" ]; then add_token; else add_token 0; fi
    token_rows | while IFS= read -r row; do
        path=$(printf '%s\n' "$row" | member path) role=$(printf '%s\n' "$row" | member roleid) below=''
        refuse_odd "$path$role"
        case $row in *'"propagate":0'* | *'"propagate":"0"'*) below=' --propagate 0' ;; esac
        echo "pveum acl modify $path --tokens '$user!$token' --roles $role$below"
    done
}

# What becomes a word of a command has plain characters.
refuse_odd() {
    case $1 in *[!A-Za-z0-9/._-]*) die "the path or role $1 has characters that this script does not take" ;; esac
}

# A role on a path, for the user and the token: a separated token has what both have.
give() {
    refuse_odd "$2"
    if [ -z "$has_token" ] || ! has_role "$2" "$1" "$user" || ! has_role "$2" "$1" "$user!$token"; then
        echo "pveum acl modify $2 --users $user --tokens '$user!$token' --roles $1"
    fi
}

guest_storages() {
    if [ -n "$storages" ]; then
        echo "$storages"
        return 0
    fi
    content=rootdir
    [ -z "$vms" ] || content='rootdir\|images'
    all=$(ask_pve /storage) || exit 1
    found=$(printf '%s\n' "$all" | rows | grep "\"content\":\"[^\"]*\\($content\\)" |
        grep -v '"disable":"\{0,1\}1' | member storage)
    [ -n "$found" ] || die 'no storage of PVE holds disks of guests: name one with --storage'
    echo "$found"
}

# Paths of bridges: those of nodes are in the zone localnetwork, a vnet is in a zone of its own.
bridge_paths() {
    vnets=''
    if [ -z "$bridges" ]; then
        node=$(uname -n)
        for kind in bridge OVSBridge; do
            all=$(ask_pve "/nodes/${node%%.*}/network" --type "$kind") || exit 1
            bridges="$bridges$(printf '%s\n' "$all" | rows | member iface | sed 's/^/ /')"
        done
        [ -n "$bridges" ] || die 'this node has no bridge: name one with --bridge'
    else
        vnets=$(pvesh get /cluster/sdn/vnets --output-format json </dev/null 2>/dev/null) || vnets=''
    fi
    for bridge in $bridges; do
        zone=$(printf '%s\n' "$vnets" | rows | grep -F "\"vnet\":\"$bridge\"" | member zone)
        echo "/sdn/zones/${zone:-localnetwork}/$bridge"
    done
}

# --- Doing it

# ASKING

take_steps() {
    removed='' left='' unseen=''
    while IFS= read -r step; do
        case $step in
            'pveum user token remove '*)
                # From here on this script alone knows the token's roles: neither a lost connection nor Ctrl-C may end it,
                # or a command of PVE that it runs.
                trap '' HUP INT TERM PIPE
                eval "$step" </dev/null >/dev/null || failed
                removed=yes
                ;;
            'pveum user token add '* | *' --regenerate 1 '*) print_secret ;;
            *) eval "$step" </dev/null >/dev/null || failed ;;
        esac
    done <<END
$steps
END
    [ -z "$left" ] || die "these failed, and $user!$token lacks something until they have been run, in this order:$left"
    [ -z "$unseen" ] || die 'the new secret could not be shown: run this with --new-secret'
}

# Once the old token is gone, a step that fails keeps none of the others from being tried.
failed() {
    [ -n "$removed" ] || die "this failed, and nothing behind it was done: $step"
    left="$left
$step"
}

# Makes the secret and prints it at once: PVE never shows it again. Only words of the shell itself touch it, so that no
# list of processes has it.
print_secret() {
    made=$(eval "$step" </dev/null) || { failed && return 0; }
    secret=${made#*'"value":"'}
    secret=${secret%%'"'*}
    case $secret in
        '' | *[!0-9A-Za-z-]*) unseen=yes ;;
        *)
            # Nothing behind it is left undone where nobody reads this any more.
            tell 'The setting for pve-edge, whose secret PVE shows only now:' || unseen=yes
            printf '%s\n' "PVE_API_TOKEN=$user!$token=$secret" || unseen=yes
            ;;
    esac
    made='' secret='' printed=yes
}

# Where a secret is to be had that was not printed now.
tell_secret() {
    [ -n "${printed-}" ] || tell "The secret of $user!$token was printed when it was made. If it is lost: --new-secret"
}

{ main "$@"; }
