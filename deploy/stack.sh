# How the scripts of this folder speak to the compose stack. Sourced by them; needs a POSIX shell.
#
#   COMPOSE       how compose is called (default: `docker compose`, else docker-compose, else podman-compose)
#   SECRETS_DIR   where the secrets are (default: as `.env` says, else `secrets` beside compose.yaml)

LC_ALL=C
export LC_ALL
umask 077
root=$(dirname "$deploy")
me=$(basename "$0")
ANSWER_SECONDS_MAX=120 # for a server that is started to answer

say() { printf '%s: %s\n' "$me" "$1"; }

fail() {
    printf '%s: %s\n' "$me" "$1" >&2
    exit 1
}

usage() { # what the comment at a script's top says
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit "$1"
}

find_compose() {
    if [ -n "${COMPOSE:-}" ]; then
        return
    elif docker compose version >/dev/null 2>&1; then
        COMPOSE="docker compose"
    elif command -v docker-compose >/dev/null; then
        COMPOSE=docker-compose
    elif command -v podman-compose >/dev/null; then
        COMPOSE=podman-compose
    else
        fail "Neither docker compose nor podman-compose is there. Say in COMPOSE how compose is called."
    fi
}

place_secrets() { # sets SECRETS_DIR, as compose.yaml has it
    if [ -z "${SECRETS_DIR:-}" ] && [ -f "$root/.env" ]; then
        SECRETS_DIR=$(sed -n 's/^SECRETS_DIR=//p' "$root/.env" | tail -n 1 | tr -d "\"'")
    fi
    case ${SECRETS_DIR:=$root/secrets} in
    /*) ;;
    *) SECRETS_DIR=$root/$SECRETS_DIR ;;
    esac
}

find_secrets() {
    place_secrets
    [ -r "$SECRETS_DIR/redis_operator_password" ] || fail "No secrets can be read in $SECRETS_DIR. Run make secrets."
}

compose() { # from where compose.yaml and .env are; COMPOSE may hold options
    # shellcheck disable=SC2086
    (cd "$root" && exec $COMPOSE "$@")
}

# The password is the first line that goes in, so that no list of processes shows it. The rest is for redis-cli.
redis() { # COMMAND…
    { cat "$SECRETS_DIR/redis_operator_password" && echo; } | redis_cli "$@"
}

redis_each() { # commands on standard input, one a line
    { cat "$SECRETS_DIR/redis_operator_password" && echo && cat; } | redis_cli
}

redis_cli() {
    # shellcheck disable=SC2016
    compose exec -T redis sh -c \
        'IFS= read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec redis-cli -e --user operator "$@"' sh "$@"
}

psql() {
    compose exec -T postgres psql --username postgres --dbname gateway --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"
}

# The sockets answer earlier, while a new cluster is being set up; by network only the finished one does.
postgres_answers() {
    compose exec -T postgres pg_isready --quiet --host 127.0.0.1 --dbname gateway </dev/null >/dev/null 2>&1
}

redis_answers() { [ "$(redis PING 2>/dev/null)" = PONG ]; }

wait_for() { # SECONDS WORDS COMMAND…: false when the command has not been true in that time
    until=$(($(date +%s) + $1)) words=$2
    shift 2
    until "$@"; do
        [ "$(date +%s)" -lt "$until" ] || {
            printf '%s: waited too long for %s\n' "$me" "$words" >&2
            return 1
        }
        sleep 1
    done
}

# Which keys are recognised, by which digests, and which of them are off: what a restore must not undo.
KEYS_NOW="COPY (
    SELECT k.id, k.revoked_at, k.enabled, s.digest, s.expires_at
    FROM public.api_keys AS k LEFT JOIN public.api_key_secrets AS s ON s.api_key_id = k.id ORDER BY k.id, s.digest
) TO STDOUT"

list_keys() { # FILE: its first line is the time it was made
    date -u '+%Y%m%dT%H%M%SZ' >"$1" && psql --command "$KEYS_NOW" </dev/null >>"$1"
}

# What the table of digests calls the pepper of this machine (core/keys.py). Nobody finds the pepper by it.
pepper_id() { printf 'pepper %s' "$(cat "$SECRETS_DIR/key_pepper")" | sha256sum | cut -c 1-8; }
