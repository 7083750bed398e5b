#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Checks that need no virtual machine; prints TAP. Each check is a function that prints what is wrong, or fails.
# Usage: tests/lint.sh [CHECK...]
# shellcheck disable=SC2317 # the checks are called by name

. "$(dirname "$0")/vm/lib.bash"
cd "$TOP"

CHECKS=(
	modules_w1_6.1 modules_w1_6.12 modules_llvm_6.1 modules_llvm_6.12 sparse_6.1 sparse_6.12
	userspace_gcc userspace_clang userspace_sanitizers test_programs
	checkpatch_kernel checkpatch_userspace kernel_doc version_code no_bug_on sizes
	shell man_page spelling
)

# Limits of one reader's attention (lines).
MAX_FUNCTION=80
MAX_FILE=600

LINT=$BUILD/lint

# sources PATTERN...: files of the tree, tracked or not, that match.
sources()
{
	if [[ -d .git ]]; then
		git ls-files -co --exclude-standard -- "$@"
	else
		local pattern

		for pattern; do
			find . -path ./build -prune -o -type f -path "./$pattern" -print | sed 's,^\./,,'
		done
	fi
}

c_sources() { sources 'kernel/*.[ch]' 'include/*.h' 'userspace/*.[ch]' 'tests/*.[ch]'; }

# shell_sources: by name or by first line, since commands have no suffix.
shell_sources()
{
	sources '*' | grep -vE '\.(c|h|md|8)$' |
		while read -r file; do
			if [[ $file =~ \.(bash|bats|sh)$ ]] || head -n 1 "$file" | grep -qaE '^#!.*(bash|bats|/sh)'; then
				printf '%s\n' "$file"
			fi
		done
}

# modules KERNEL NAME MAKE-ARGUMENT...: each way of building has a directory of its own and is incremental.
modules()
{
	"$VM/build-modules" "$1" "$LINT/$2-$1" "${@:3}" 2>&1
}

modules_w1() { modules "$1" w1 W=1 KCFLAGS=-Werror; }
modules_llvm() { modules "$1" llvm LLVM=1 KCFLAGS=-Werror; }

# C=2 looks at every file each time. What it says about the kernel's own headers is not ours.
sparse()
{
	modules "$1" w1 W=1 KCFLAGS=-Werror C=2 CF=-D__CHECK_ENDIAN__ | grep -F "$LINT/w1-$1" || true
}

userspace_gcc() { make -s -C userspace CC=gcc 2>&1; }
userspace_clang() { make -s -C userspace CC=clang OUT=../build/clang 2>&1; }
userspace_sanitizers() { make -s -C userspace SAN=1 2>&1; }
test_programs() { make -s -C tests 2>&1; }

# checkpatch IGNORED FILE...
checkpatch()
{
	unpack_linux_source 2>/dev/null
	"$LINUX_SOURCE/scripts/checkpatch.pl" --no-tree --terse --show-types --no-summary --quiet \
		--ignore "$1" -f "${@:2}" 2>&1
}

# The version is compared in compat.h, and there only (version_code), which also names types that old kernels lack.
checkpatch_kernel()
{
	local files

	mapfile -t files < <(sources 'kernel/*.[ch]' 'include/*.h')
	checkpatch LINUX_VERSION_CODE,CONSTANT_COMPARISON,NEW_TYPEDEFS,MACRO_ARG_UNUSED "${files[@]}"
}

# The kernel's style without the kernel's macros.
checkpatch_userspace()
{
	local files

	mapfile -t files < <(sources 'userspace/*.[ch]' 'tests/*.[ch]')
	checkpatch PREFER_DEFINED_ATTRIBUTE_MACRO,ARRAY_SIZE,AVOID_EXTERNS,EMBEDDED_FUNCTION_NAME "${files[@]}"
}

kernel_doc()
{
	local files script

	mapfile -t files < <(sources 'kernel/*.[ch]' 'include/*.h')
	script=$(kernel_dir 6.12)/scripts/kernel-doc
	"$script" -none -Wall -Werror "${files[@]}" 2>&1
}

version_code()
{
	sources 'kernel/*' | grep -v '^kernel/compat\.h$' |
		xargs grep -nE 'LINUX_VERSION_CODE|KERNEL_VERSION' || true
}

no_bug_on()
{
	sources 'kernel/*' | xargs grep -nE '\<(VM_)?BUG(_ON)?\(' || true
}

sizes()
{
	c_sources | xargs awk -v max="$MAX_FUNCTION" '
		FNR == 1 { start = 0 }
		/^\{/ { start = FNR }
		/^\}/ && start {
			if (FNR - start - 1 > max)
				printf "%s:%d: function of %d lines\n", FILENAME, start, FNR - start - 1
			start = 0
		}'
	{ c_sources; shell_sources; } | xargs wc -l |
		awk -v max="$MAX_FILE" '$2 != "total" && $1 > max { print $2 ": " $1 " lines" }'
}

shell() { shell_sources | xargs shellcheck -x; }

man_page()
{
	local pages

	mapfile -t pages < <(sources 'userspace/*.8')
	((${#pages[@]} == 0)) || mandoc -Tlint -W warning "${pages[@]}"
}

# syzkaller's language has words of its own.
spelling() { sources '*' | grep -vE '^(COPYING$|tests/syzkaller/)' | xargs codespell --quiet-level=2; }

run_check()
{
	local check=$1 output status=0

	# A name that ends in a kernel is the function before it, with the kernel as argument.
	if [[ $check == *_6.* ]]; then
		output=$("${check%_*}" "${check##*_}") || status=$?
	else
		output=$("$check") || status=$?
	fi
	if ((status == 0)) && [[ -z $output ]]; then
		printf 'ok - %s\n' "$check"
	else
		printf 'not ok - %s\n' "$check"
		printf '%s\n' "$output" | head -n 50 | sed 's/^/# /'
		failed=1
	fi
}

failed=0
for check in "${@:-${CHECKS[@]}}"; do
	run_check "$check"
done
exit "$failed"
