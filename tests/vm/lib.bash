# SPDX-License-Identifier: GPL-2.0-only
# What the lab's scripts share: where things are, and which kernel a short name means.
# shellcheck shell=bash

set -euo pipefail
shopt -s extglob

# The checkout, found from this file: a script may be started from anywhere.
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD=$TOP/build
VM=$TOP/tests/vm
export TOP BUILD VM

LINUX_SOURCE=$BUILD/linux-source-6.12
DEBUG_KERNEL=$BUILD/debug-kernel
TRIXIE=$BUILD/trixie
export LINUX_SOURCE DEBUG_KERNEL TRIXIE

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die()
{
	say "$*"
	exit 125
}

# with_lock NAME COMMAND...: one process at a time fills a part of the cache, the others wait and find it full.
with_lock()
{
	local lock=$BUILD/lock/$1

	shift
	mkdir -p "$BUILD/lock"
	(
		if ! flock -n 9; then
			say "waiting for another process ($lock)"
			flock 9
		fi
		"$@" 9>&-
	) 9>"$lock"
}

# kernel_release NAME: the release (uname -r) behind 6.1, 6.12, debug or backports; any other name is taken for a release.
# A stock kernel is the one whose headers are installed: image, modules and headers must be of one build.
kernel_release()
{
	local name=$1

	case $name in
	debug)
		cat "$DEBUG_KERNEL/include/config/kernel.release"
		;;
	backports)
		basename "$TRIXIE"/lib/modules/*
		;;
	+([0-9]).+([0-9]))
		newest_headers "$name" ||
			die "no headers for Linux $name in /usr/src: run tests/deps"
		;;
	*)
		printf '%s\n' "$name"
		;;
	esac
}

# The plain amd64 flavour only: a digit before "-amd64" leaves out -cloud-amd64 and -rt-amd64.
newest_headers()
{
	local found

	found=$(printf '%s\n' /usr/src/linux-headers-"$1".*[0-9]-amd64 | sort -V | tail -n 1)
	[[ -d $found ]] && printf '%s\n' "${found#/usr/src/linux-headers-}"
}

# kernel_dir NAME: the directory to build modules against.
kernel_dir()
{
	case $1 in
	debug) printf '%s\n' "$DEBUG_KERNEL" ;;
	backports) printf '%s/usr/src/linux-headers-%s\n' "$TRIXIE" "$(kernel_release backports)" ;;
	*) printf '/usr/src/linux-headers-%s\n' "$(kernel_release "$1")" ;;
	esac
}

# ensure_kernel NAME: nothing to do when the kernel is cached.
ensure_kernel()
{
	case $1 in
	debug) "$VM/build-debug-kernel" ;;
	backports) "$VM/fetch-backport" ;;
	*) "$VM/fetch-kernel" "$(kernel_release "$1")" ;;
	esac
}

# unpack_linux_source: Debian's kernel source, for the debug kernel and for checkpatch.
unpack_linux_source()
{
	with_lock linux-source unpack_linux_source_locked
}

unpack_linux_source_locked()
{
	local version stamp=$LINUX_SOURCE/.version-unpacked

	version=$(dpkg-query -W -f '${Version}' linux-source-6.12)
	[[ $(cat "$stamp" 2>/dev/null) == "$version" ]] && return
	say "unpacking linux-source-6.12"
	rm -rf "$LINUX_SOURCE"
	mkdir -p "$LINUX_SOURCE"
	tar -xJf /usr/src/linux-source-6.12.tar.xz -C "$LINUX_SOURCE" --strip-components=1
	printf '%s' "$version" >"$stamp"
}
