#!/bin/bash
# Makes the cluster at the first start and runs /docker-entrypoint-initdb.d on it while only its socket answers.
set -e

from_file() { # a variable's value may be in the file that VARIABLE_FILE names
    local name=$1 file=$1_FILE
    [ -z "${!file}" ] || printf -v "$name" %s "$(<"${!file}")"
    unset "$file"
}

as_postgres() {
    mkdir -p "$PGDATA" /run/postgresql
    chown -R postgres:postgres "$PGDATA" /run/postgresql
    exec setpriv --reuid postgres --regid postgres --clear-groups -- "$0" "$@"
}

docker_process_sql() {
    psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-password "$@"
}

make_cluster() {
    [ -n "$POSTGRES_PASSWORD" ] || { echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set" >&2; exit 1; }
    # shellcheck disable=SC2086 # several options in one variable
    initdb --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS >/dev/null
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

run_first_scripts() {
    local file
    PGUSER=$POSTGRES_USER pg_ctl start --wait --silent --options "-c listen_addresses=''"
    export PGPASSWORD=$POSTGRES_PASSWORD
    [ "$POSTGRES_DB" = postgres ] || POSTGRES_DB=postgres docker_process_sql --command "CREATE DATABASE \"$POSTGRES_DB\""
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
        *.sql) docker_process_sql --file "$file" ;;
        esac
    done
    unset PGPASSWORD
    PGUSER=$POSTGRES_USER pg_ctl stop --wait --silent --mode fast
}

[ "${1#-}" = "$1" ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
    [ "$(id -u)" != 0 ] || as_postgres "$@"
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    export POSTGRES_USER=${POSTGRES_USER:-postgres}
    export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        mkdir -p "$PGDATA"
        chmod 0700 "$PGDATA"
        make_cluster
        run_first_scripts
    fi
    unset POSTGRES_PASSWORD
    set -- "$@" -c "listen_addresses=*"
fi
exec "$@"
