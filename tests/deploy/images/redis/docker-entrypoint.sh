#!/bin/sh
# Options or a file of settings alone mean the server; root hands it to user redis.
set -e
case "${1-}" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "${1-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis:redis /data
    exec setpriv --reuid redis --regid redis --clear-groups -- "$0" "$@"
fi
exec "$@"
