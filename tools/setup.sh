# shellcheck shell=sh
# Set-up shared by tools/up and tools/test: everything from a bare Debian or Ubuntu to a working .venv.
# A caller sets $name, sources this file, and calls set_up run|test. Nothing is done twice: what is there stays.

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$top/.venv
stamp=$venv/.dfs-stamp
native_stamp=$venv/.dfs-native-stamp
packages=

say() { printf '%s: %s\n' "$name" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

require_root() {
    [ "$(id -u)" = 0 ] || fail "must run as root (it installs packages and mounts): sudo $0"
}

require_fuse() {
    [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || :
    [ -c /dev/fuse ] || fail "no /dev/fuse: load the kernel module (modprobe fuse);" \
        "in a container, pass it in (--device /dev/fuse --cap-add SYS_ADMIN)"
    (: <>/dev/fuse) 2>/dev/null || fail "/dev/fuse cannot be opened: this container lacks the" \
        "permission (--device /dev/fuse --cap-add SYS_ADMIN)"
}

# Sets $python to the first interpreter that is new enough; PYTHON overrides the search.
find_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    done
    fail "needs Python 3.11 or newer as ${PYTHON:-python3}: apt-get install python3" \
        "(or set PYTHON to the path of one)"
}

want() { packages="$packages $*"; }

want_command() { # COMMAND PACKAGE...: the packages, unless the command is there
    command -v "$1" >/dev/null 2>&1 && return
    shift
    want "$@"
}

# pyfuse3 comes as source only, and the tap is native code: a compiler, its headers and libfuse's are needed.
want_run_packages() {
    want_command fusermount3 fuse3
    want_command cc gcc libc6-dev
    want_command pkg-config pkg-config
    pkg-config --exists fuse3 2>/dev/null || want libfuse3-dev
    "$python" -c 'import ensurepip, venv' 2>/dev/null || want python3-venv
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || want python3-dev
}

# The programs that tests drive on a mounted dfs, beside those that every root has.
want_test_packages() {
    want_command git git
    want_command make make
    want_command diff diffutils
    want_command mount mount
    want_command unshare util-linux
    want_command ip iproute2
    want_command mkfs.ext4 e2fsprogs
}

quietly() { # COMMAND...: its output is shown only when it fails
    output=$(mktemp)
    if "$@" >"$output" 2>&1; then
        rm -f "$output"
    else
        tail -n 20 "$output" >&2
        rm -f "$output"
        return 1
    fi
}

install_packages() {
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || fail "no apt-get here; install by hand:$packages"
    say "installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    # A stale or partly unreachable index is no reason to stop: the installation decides.
    quietly apt-get -qq update || say "apt-get update failed; going on with the package lists at hand"
    # shellcheck disable=SC2086 # a list of words
    quietly apt-get -qq install -y --no-install-recommends $packages ||
        fail "apt-get could not install$packages (offline?)"
}

pip() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 quietly "$venv/bin/python" -m pip --no-input "$@"
}

install_locked() { # build|run|test
    pip install --no-deps --no-build-isolation --require-hashes -r "$top/requirements/$1.lock" ||
        fail "pip could not install requirements/$1.lock (offline?); run $0 again to retry"
}

# What a finished .venv was made from: it is made again when any of this changes.
fingerprint() {
    "$python" -VV
    printf '%s\n' "$venv"
    cat "$top"/requirements/*.lock
}

venv_is_sound() { # made from these inputs, and it works
    [ "$(sed -n 1p "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/dfs" ] &&
        (cd / && "$venv/bin/python" -c 'import pyfuse3, dfs') 2>/dev/null
}

has_tap() { (cd / && "$venv/bin/python" -c 'import dfs.mount.fusetap._tap') 2>/dev/null; }

# dfs itself, in place; again when its native code changed (dfs/mount/fusetap).
install_dfs() {
    wanted_native=$(cat "$top/setup.py" "$top"/dfs/mount/fusetap/*.c | sha256sum | cut -d' ' -f1)
    [ "$(cat "$native_stamp" 2>/dev/null)" = "$wanted_native" ] && has_tap && return
    rm -f "$top"/dfs/mount/fusetap/*.so # what is left of another version must not pass for this one
    pip install --no-deps --no-build-isolation --no-index --editable "$top" || fail "pip could not install dfs itself"
    if has_tap; then
        printf '%s\n' "$wanted_native" >"$native_stamp"
    else
        say "the fast FUSE loop could not be built; mounts work without it, slower"
    fi
}

make_venv() { # run|test: what the tests need includes what dfs needs
    wanted=$(fingerprint | sha256sum | cut -d' ' -f1)
    if venv_is_sound; then
        install_dfs
        made_for=$(sed -n 2p "$stamp")
        [ "$1" = run ] || [ "$made_for" = test ] || add_to_venv "$1"
        return 0
    fi
    say "making $venv (pyfuse3 is compiled, which takes a minute)"
    rm -rf "$venv"
    quietly "$python" -m venv "$venv" || fail "could not make a virtual environment in $venv"
    install_locked build
    install_dfs
    add_to_venv "$1"
}

add_to_venv() { # run|test: the stamp comes last, so that an interrupted set-up starts again
    install_locked "$1"
    (cd / && "$venv/bin/python" -c 'import pyfuse3, dfs') || fail "$venv does not work after installation"
    printf '%s\n%s\n' "$wanted" "$1" >"$stamp"
}

# `dfs` for the shell, and the program that mount(8) runs for `mount -t dfs` and fstab.
link_commands() {
    if [ ! -L /usr/local/bin/dfs ] && [ -e /usr/local/bin/dfs ]; then
        fail "/usr/local/bin/dfs is another program: move it away first"
    fi
    mkdir -p /usr/local/bin
    [ "$(readlink /usr/local/bin/dfs)" = "$venv/bin/dfs" ] || ln -sfn "$venv/bin/dfs" /usr/local/bin/dfs
    content=$(printf '#!/bin/sh\nexec "%s" mount-helper "$@"\n' "$venv/bin/dfs")
    if [ "$(cat /sbin/mount.dfs 2>/dev/null)" != "$content" ]; then
        printf '%s\n' "$content" >/sbin/mount.dfs
        chmod 755 /sbin/mount.dfs
    fi
}

set_up() { # run|test
    require_root
    find_python
    require_fuse
    exec 9<"$top/tools/setup.sh"
    flock 9 # two set-ups of one checkout take turns
    want_run_packages
    [ "$1" = run ] || want_test_packages
    install_packages
    make_venv "$1"
    link_commands
    exec 9<&-
}
