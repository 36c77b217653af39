#!/bin/sh
# Make .venv from requirements.lock and install what the sandbox needs from Debian. Quick when nothing is missing.
# Arguments: further Debian packages (what tests need).
set -eu
cd "$(dirname "$0")/.."

packages="python3 python3-venv containerd runc containernetworking-plugins iptables conntrack iproute2 kmod
  buildah mmdebstrap ca-certificates util-linux procps $*"
uv_version=0.13.9

stamp=".venv/.slipway-lock${1:+-with-$1}"
wanted=$(cat requirements.lock pyproject.toml sandbox/bootstrap.sh | cksum)
[ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 2; }

# Elsewhere, and without root, Python is all that is made ready: `sandbox up` then says which ways to a cluster remain.
if [ -z "${SLIPWAY_KUBECONFIG:-}" ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  missing=""
  for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
  done
  if [ -n "$missing" ]; then
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # A policy of 101 keeps Debian from starting its own containerd: the sandbox runs one of its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
      trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
fi

python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3) || fail "python3 is missing: install it, 3.11 or newer"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed, not $("$python" -V)"
[ -x .venv/bin/python ] || "$python" -m venv .venv || fail "cannot make .venv: install python3-venv"
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
say "installing Python packages"
.venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
[ ! -f pyproject.toml ] || .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
echo "$wanted" >"$stamp"
