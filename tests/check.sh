#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the project's tests and counts them. Every job prints TAP into build/check; a job that ends badly is one more
# failed test. The last line is "N passed, N failed, N skipped".
# Usage: tests/check.sh [PART...]
#   lint    the checks that need no machine        bats    every suite on each kernel of $CHECK_KERNELS
#   kunit   KUnit on the debug kernel              crash   tests/crash: power loss, on one or the other of them
#   fuzz    tests/fuzz: wrong images and streams, $FUZZ_SECONDS (120) each
#   failslab  the suite about failing memory, on the debug kernel: stock ones cannot have it fail
#   debug   the suites of tests/debug-subset on the debug kernel, with a leak check
#   debug-kernel  builds it, beside the others
# Default: all but failslab and debug; without the debug kernel and kunit when SKIP_DEBUG is set. Long suites run on one kernel
# and the crash tests are short, so that the default stays well below an hour; with CHECK_ALL set nothing is left out.

. "$(dirname "$0")/vm/lib.bash"
cd "$TOP"

RESULTS=$BUILD/check
# A suite that takes longer hangs.
SUITE_LIMIT=1500

read -ra kernels <<<"${CHECK_KERNELS:-6.1 6.12}"

# --- what there is to do: a job is KIND, KIND/KERNEL/SUITE[+SUITE...] or fuzz/TARGET

plan()
{
	local part kernel

	for part; do
		case $part in
		lint | kunit | debug-kernel)
			echo "$part"
			;;
		failslab)
			echo debug/debug/failslab
			;;
		bats)
			suite_jobs bats "${kernels[*]}" tests/*.bats
			;;
		debug)
			# shellcheck disable=SC2046 # names of suites have no spaces
			suite_jobs debug debug $(sed 's/#.*//' tests/debug-subset)
			;;
		crash)
			for kernel in "${kernels[@]}"; do
				[[ ! ${CHECK_ALL:-} && $kernel != "${kernels[0]}" ]] || echo "crash/$kernel/run"
			done
			echo "crash/${kernels[-1]}/matrix"
			# The matrix does the same operations; this ends machines for real.
			[[ ! ${CHECK_ALL:-} ]] || echo "crash/${kernels[0]}/run-operations"
			;;
		fuzz)
			printf 'fuzz/%s\n' image stream
			;;
		*)
			die "no part called $part"
			;;
		esac
	done
}

# suite_jobs KIND KERNELS SUITE...
suite_jobs()
{
	local suite kernel

	for suite in "${@:3}"; do
		suite=$(basename "$suite" .bats)
		for kernel in $2; do
			[[ $suite != failslab || $kernel == debug ]] || continue
			if [[ ! ${CHECK_ALL:-} ]]; then
				# Little in them knows the kernel, or another suite does much of it on both: the first one, or the last.
				case $suite in
				balloonstates | control | data | fs | hosts | kill | levels | lifecycle | merge | model | privilege | relocblks | \
					space | userpage)
					[[ $kernel == "${2%% *}" ]] || continue
					;;
				balloon | balloonctl | check | cli | collect | copy | discard | faults | fuzz | grow | images | offline | property | repair | stack)
					[[ $kernel == "${2##* }" ]] || continue
					;;
				esac
			fi
			echo "$1/$kernel/$suite"
		done
	done
}

# The CPUs are to have work to the end. The debug kernel, which others wait for, takes longest of all. Short suites share a
# machine, as KIND/KERNEL/SUITE+SUITE: it takes a quarter of a minute until the first test of one begins.
longest_first()
{
	awk 'NR == FNR { seconds[$1] = $2; next } { print ($1 in seconds ? seconds[$1] : 60), $1 }' tests/durations - |
		sort -s -k1,1nr |
		awk -v most=140 -v sum=400 '
			{
				split($2, part, "/")
				at = part[1] "/" part[2]
				if (part[1] != "bats" || $1 > most) {
					print
				} else if (at in time && time[at] + $1 <= sum) {
					time[at] += $1
					jobs[at] = jobs[at] "+" part[3]
				} else {
					if (at in time)
						print time[at], jobs[at]
					time[at] = $1
					jobs[at] = $2
				}
			}
			END {
				for (at in time)
					print time[at], jobs[at]
			}' |
		sort -s -k1,1nr | cut -d' ' -f2
}

# --- how it is done

# one_result TEST COMMAND...: a command as a test.
one_result()
{
	local test=$1

	shift
	if ("$@") >&2; then
		echo "ok - $test"
	else
		echo "not ok - $test"
		return 1
	fi
}

machine()
{
	"$VM/run" -o "$RESULTS/$name" -t "$SUITE_LIMIT" -k "$@"
}

# Not in prepare, so that stock kernels need not wait until the debug kernel is built.
debug_machine()
{
	"$VM/build-modules" debug >&2 && machine debug "$@"
}

# kmemleak halves the speed: it watches the suite that makes and removes devices by the hundred, the one that takes the
# ways out of errors, and no other.
debug_suite()
{
	if [[ $1 == lifecycle || $1 == failslab ]]; then
		debug_machine -a kmemleak=on -d images=20g -- tests/vm/guest-setup tests/vm/guest-leakcheck \
			bats --formatter tap "tests/$1.bats"
	else
		debug_machine "tests/$1.bats"
	fi
}

# The short version; `make crash` is the long one of the matrix.
crash_job()
{
	CRASH_ROUNDS=${CRASH_ROUNDS:-1} "tests/crash/$1" "$2"
}

# Of do_job: one suite, or several.
suite_machine()
{
	local suites

	IFS=+ read -ra suites <<<"$suite"
	suites=("${suites[@]/#/tests/}")
	machine "$kernel" "${suites[@]/%/.bats}"
}

do_job()
{
	local kind kernel suite

	IFS=/ read -r kind kernel suite <<<"$1"
	case $kind in
	prepare) one_result "the tools and modules build" prepare ;;
	debug-kernel) one_result "the debug kernel builds" ensure_kernel debug ;;
	lint) tests/lint.sh ;;
	bats) suite_machine ;;
	kunit) debug_machine -- tests/vm/guest-setup tests/vm/guest-kunit ;;
	debug) debug_suite "$suite" ;;
	crash) crash_job "$suite" "$kernel" ;;
	fuzz) tests/fuzz/run "$kernel" "${FUZZ_SECONDS:-120}" ;;
	esac
}

# A failed test explains status 1. Anything else, and tests that the plan promised but nobody saw, is a failure too.
judge()
{
	local tap=$1 status=$2 seen planned

	seen=$(count '^(not )?ok\b' "$tap")
	planned=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$tap" | tail -n 1)
	case $status in
	0 | 1) ;;
	99) echo "not ok - the kernel stays silent" ;;
	124) echo "not ok - the job ends in time" ;;
	*) echo "not ok - the job ends well (status $status)" ;;
	esac
	if ((seen < ${planned:-1})); then
		echo "not ok - $((${planned:-1} - seen)) of the tests did not run"
	elif ((status == 1)) && ! grep -q '^not ok' "$tap"; then
		echo "not ok - the job ends well (status 1)"
	fi
}

run_job()
{
	local job=$1 name=${1//\//-} start=$SECONDS status=0 tap

	tap=$RESULTS/$name.tap
	do_job "$job" >"$tap" 2>"$tap.err" </dev/null || status=$?
	judge "$tap" "$status" >"$tap.verdict"
	if [[ -s $tap.verdict ]]; then
		cat "$tap.verdict" >>"$tap"
		sed 's/^/# /' "$tap.err" >>"$tap"
	fi
	printf '%s %d\n' "$job" $((SECONDS - start)) >>"$RESULTS/durations"
	tell "$job" "$tap" $((SECONDS - start))
	: >"$tap.done"
}

# One write, because jobs end at the same time.
tell()
{
	local job=$1 tap=$2 seconds=$3 text

	text="$job: $(count '^ok' "$tap") ok, $(count '^not ok' "$tap") not ok, $seconds s"
	if grep -q '^not ok' "$tap"; then
		text+=$'\n'$(awk '/^(not )?ok/ { failed = /^not/ } failed { print "    " $0 }' "$tap")
		text+=$'\n'"    see $tap"
	fi
	printf '%s\n' "$text"
}

count() { cat -- "${@:2}" /dev/null | grep -cE "$1" || true; }

# A machine uses one CPU, seven eighths of the time: with one machine more than CPUs none is idle.
run_jobs()
{
	local job

	for job; do
		while (($(jobs -rp | wc -l) > $(nproc))); do
			wait -n || true
		done
		run_job "$job" &
	done
	wait
}

# --- what has to be there first

# Tools and modules, natively, for the stock kernels of all jobs.
prepare()
{
	local kernel

	make -s tools || return
	make -s -C tests || return
	awk -F/ '$1 ~ /^(bats|crash)$/ && !seen[$2]++ { print $2 }' "$RESULTS/jobs" |
		while read -r kernel; do
			ensure_kernel "$kernel" || return
			"$VM/build-modules" "$kernel" || return
		done
}

# A job that vanished without a verdict is a failure like any other.
not_done()
{
	local job tap

	while read -r job; do
		tap=$RESULTS/${job//\//-}.tap
		if [[ ! -e $tap.done ]]; then
			echo "not ok - $job was judged" | tee -a "$tap"
		fi
	done < <(echo prepare; cat "$RESULTS/jobs")
}

summary()
{
	local passed failed skipped

	not_done
	skipped=$(count '^ok.*# skip' "$RESULTS"/*.tap)
	passed=$(($(count '^ok' "$RESULTS"/*.tap) - skipped))
	failed=$(count '^not ok' "$RESULTS"/*.tap)
	printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
	((failed == 0 && passed > 0))
}

main()
{
	local parts=("$@") jobs

	if ((${#parts[@]} == 0)); then
		parts=(crash bats fuzz lint)
		[[ ${SKIP_DEBUG:-} ]] || parts=(debug-kernel "${parts[@]}" kunit)
	fi
	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	"$TOP/tests/deps" check
	plan "${parts[@]}" | longest_first >"$RESULTS/jobs"
	mapfile -t jobs <"$RESULTS/jobs"
	run_jobs prepare
	if ! grep -q '^not ok' "$RESULTS/prepare.tap"; then
		run_jobs "${jobs[@]}"
	fi
	summary
}

with_lock check main "$@"
