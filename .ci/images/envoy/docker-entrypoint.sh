#!/bin/sh
# As the official image's: options alone are Envoy's; root gives up its rights first, but for ENVOY_UID=0.
set -e
case "${1:-}" in -*) set -- envoy "$@" ;; esac
if [ "$(id -u)" = 0 ] && [ "${ENVOY_UID:-}" != 0 ]; then exec setpriv --reuid=envoy --regid=envoy --clear-groups "$@"; fi
exec "$@"
