// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package kernels runs this module's eBPF tests on the kernels that it supports.
package kernels

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/kernels/internal/vm"
)

// packages are those whose tests run in each guest, in the order of their names.
var packages = []string{
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel",
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel/lockdown", // the last: what it does lasts
}

const (
	oldest, newest = "5.10", "7.3" // of vm.Kernels

	guestLimit = 30 * time.Minute // verifying the programs takes seconds a test there
	// testLimit is shorter, so that a test that hangs says where.
	testLimit = guestLimit - 30*time.Second
)

// core is what every kernel shows, those in between nothing else: that each program is taken, and each family's tests.
var core = tests(
	"EveryHookIsThere", "EveryHookOfHTTPIsAttached", "ProgramsOnlyRead",
	"CgroupMadeAndRemoved", "CgroupJoined", "CgroupOfAProcess", "CgroupsOlderThanTheSource", "Scope",
	"Exec", "ExecOfMemory", "ExecAsAnotherUserInAnotherPIDNamespace", "ExecByThreadKeepsTheProcess", "ForkWithoutExec",
	"Exit", "ExitAccountsForCPUTimeOfAllThreads", "OOMKill", "ProcessesThatAreOlder",
	"Transfer", "Refused", "TimedOut", "Reset", "UDP", "ServerThatHandsTheConnectionOver", "ConnectionThatIsOlder",
	"OwnTrafficIsLeftOut", "TrafficOutsideTheScope",
	"DNSMessages", "DNSSegments",
	"HTTPExchanges", "HTTPHeadsCutEverywhere", "HTTPTimes", "HTTPCutExchanges", "HTTPLinesBeyondWhatIsKept",
	"FailedTLSHandshakes", "TLSRecords",
	"SecurityActions",
	"Plugins", "NetworkNamespaces", "EtcdCalls", "EtcdHooks",
	"ALimitIsOfOneCgroup", "OneProgramAfterTheOtherIsLimited",
	"Lockdown",
)

// foreign is what another architecture shows: that its kernel takes every program, and one test and more of each family, all of
// which go by its system calls and registers.
var foreign = tests(
	"EveryHookIsThere", "EveryHookOfHTTPIsAttached", "ProgramsOnlyRead",
	"CgroupMadeAndRemoved", "CgroupJoined", "Scope",
	"Exec", "ExecByThreadKeepsTheProcess", "ForkWithoutExec", "Exit", "ExitAccountsForCPUTimeOfAllThreads", "OOMKill",
	"Transfer", "Refused", "Reset", "UDP",
	"DNSMessages", "DNSSegments", "HTTPExchanges", "HTTPCutExchanges", "TLSRecords",
	"SecurityActions", "Plugins", "NetworkNamespaces", "EtcdCalls", "EtcdHooks", "Lockdown",
)

// slow is what takes most of a guest's time: tests for which the programs that read HTTP are verified once more, each with
// settings of its own, or nearly all others twice; what an emulated CPU needs minutes for; what loads programs to look at the
// collector more than at them; and one test during which such a CPU once stood still: all instructions that kprobes have
// changed are changed back while programs are attached. They run on the kernel of whoever runs all tests. In guests, what the
// shared programs are loaded for shows that the kernel takes them.
var slow = tests(
	"HooksOfThreeCapabilities", "HTTPOnConnectionsThatWereNotMet", "HTTPOnOlderConnections", "HTTPPipelinedOnOlderConnections",
	"HTTPTooManyInFlight", "HTTPPipelinedWithoutRoom",
	"TheOnlyRequestIsTheCause", "AServerThatHasNotClosedYetIsNotIdle", "ThreadsAndWhatTheySend", "CgroupsForWhichTheRingHasNoRoom",
	"ATLSClientThatTalksNonsenseIsCounted", "ATLSHandshakeWhoseEndWasNotSeenIsCounted", "NoTLSHandshakesOnOlderConnections",
	"OthersGoOnWithoutStreams", "MoreUDPFlowsThanThereIsRoomFor", "TrafficDoesNotPushOutTheRest", "HooksWithoutKprobes",
	"ACgroupThatIsSilentIsForgotten", "WithoutRoomThereIsNoLimit", "ReportsAreNotLimited", "LimitsOfFamiliesThatAreOff",
	"WhateverIsSaidOverHTTPIsToldAsItIs", "WhateverIsAskedOfDNSIsToldAsItIs", "WhateverProcessesDoIsToldAsItIs", "WhateverSocketsDoIsToldAsItIs", "HTTPOwnSlots", "HTTPFewOwnSlots", "Behind", "AFullRingWakesTheReaderNowAndThen",
	"HTTPExchangesBeyondTheLimitAreSummedUp", "DurationsOfSums", "EndsOfSums", "SumsTakeTurns",
	"SumsAreReadAlthoughRingsFail", "WhoseSumsTheyAreIsToldBefore", "WithoutRoomForSumsExchangesAreThrottled", "WithoutRoomForSumsConnectionsAreThrottled",
	"WithoutRoomForSumsProcessesAreThrottled", "WithoutRoomForSumsExchangesAreThoseOfTheirCgroup",
	"WithoutRoomForSumsConnectionsAreThoseOfTheirCgroup", "HandshakesBeyondTheLimitAreSummedUp",
	"BeginningAndEndAreNoLoss", "ACgroupThatIsRemovedDuringTheStart", "OneDirectionAloneIsNotUsed",
	"ConnectionThatTalksMeanwhile",
	"DurationsOfSummedHandshakes", "WithoutRoomForSumsHandshakesAreThoseOfTheirCgroup",
	"WithoutRoomForSumsHandshakesAreThrottled",
)

// twice is what a test does with the programs that read HTTP and without, where other tests have those without, too: its
// cryptography takes an emulated CPU a minute each time.
const twice = "^TestTLSHandshakes$/^alone$"

// once is what the oldest kernel shows for all: to suspend a machine takes an emulated one a minute.
var once = tests("Suspend")

// tests is the expression that these tests, without their "Test", match.
func tests(names ...string) string { return "^Test(" + strings.Join(names, "|") + ")$" }

// TestKernels boots each kernel once and shows every test of the guest as one of its own.
func TestKernels(t *testing.T) {
	if os.Getenv("TAPIO_KERNELS") == "" {
		t.Skip("set TAPIO_KERNELS=1 to run, or TAPIO_KERNELS=all for all tests on all kernels; it needs qemu-system-x86, cpio, apt and some minutes")
	}
	dir, ctx := t.TempDir(), t.Context() // both last until all guests have ended
	guests := newLine(2)                 // a guest keeps little more than one CPU busy
	for _, kernel := range vm.Kernels {
		t.Run(kernel.Name, func(t *testing.T) {
			requireEmulator(t, kernel)
			guest := newGuest(t, dir, kernel)
			var console string
			var err error
			ended := guests.run(func() {
				start := time.Now()
				console, err = guest.Run(ctx)
				t.Logf("kernel %s took %s", kernel.Name, time.Since(start).Round(100*time.Millisecond))
			})
			t.Parallel()
			<-ended
			report(t, guest, console, err)
		})
	}
}

// line has guests run some at a time, and begin in the order in which they come, which is that of vm.Kernels: those that take
// longest come first, since the one that is left at the end runs alone. Parallel tests go on in any order.
type line struct {
	places chan struct{}
	last   chan struct{} // closed when the one that came last has begun
}

func newLine(places int) *line {
	nobody := make(chan struct{})
	close(nobody)
	return &line{places: make(chan struct{}, places), last: nobody}
}

func (l *line) run(guest func()) (ended <-chan struct{}) {
	before, begun, end := l.last, make(chan struct{}), make(chan struct{})
	l.last = begun
	go func() {
		defer close(end)
		<-before
		l.places <- struct{}{}
		close(begun)
		guest()
		<-l.places
	}()
	return end
}

// TestSelectionsNameTests would find a test that was renamed, and would run no longer.
func TestSelectionsNameTests(t *testing.T) {
	declared := map[string]bool{}
	for _, pkg := range packages {
		folder := filepath.Join("..", "..", strings.TrimPrefix(pkg, "github.com/tapio-io/otelcol-tapio/"))
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, match := range declaration.FindAllSubmatch(text, -1) {
				declared[string(match[1])] = true
			}
		}
	}
	for _, selected := range []string{core, foreign, slow, once} {
		for name := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(selected, "^Test("), ")$"), "|") {
			assert.True(t, declared[name], "there is no Test%s", name)
		}
	}
}

var declaration = regexp.MustCompile(`(?m)^func Test(\w+)\(t \*testing\.T\)`)

// requireEmulator lets only the foreign architecture do without its QEMU, and nothing in CI.
func requireEmulator(t *testing.T, kernel vm.Kernel) {
	_, err := kernel.Emulator()
	if err != nil && kernel.Arch != "amd64" && os.Getenv("TAPIO_REQUIRE_BPF") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err)
}

func newGuest(t *testing.T, dir string, kernel vm.Kernel) vm.Guest {
	initBinary, err := vm.BuildInit(t.Context(), dir, kernel.Arch)
	require.NoError(t, err)
	guest := vm.Guest{
		Kernel: kernel,
		Init:   initBinary,
		Flags:  []string{"-test.timeout=" + testLimit.String()},
		Limit:  guestLimit,
	}
	if os.Getenv("TAPIO_KERNELS") != "all" {
		guest.Flags = append(guest.Flags, selection(kernel)...)
	}
	for _, pkg := range packages {
		binary, err := vm.BuildTest(t.Context(), dir, kernel.Arch, pkg)
		require.NoError(t, err)
		guest.Binaries = append(guest.Binaries, binary)
	}
	return guest
}

// selection is of the tests that CI has time for.
func selection(kernel vm.Kernel) []string {
	switch kernel.Name {
	case oldest:
		return []string{"-test.skip=" + slow + "|" + twice}
	case newest:
		return []string{"-test.skip=" + slow + "|" + twice + "|" + once}
	}
	if kernel.Arch != "amd64" {
		return []string{"-test.run=" + foreign}
	}
	return []string{"-test.run=" + core}
}

func report(t *testing.T, guest vm.Guest, console string, runErr error) {
	results, parseErr := vm.Parse(console)
	ended := map[string]bool{}
	for _, result := range results {
		ended[result.Binary] = true
		t.Run(result.Name(), func(t *testing.T) { reportBinary(t, result) })
	}
	for _, binary := range guest.Binaries {
		if !ended[binary.Name] {
			t.Errorf("%s did not end", binary.Name)
		}
	}
	if runErr != nil {
		t.Error(runErr)
	}
	if parseErr != nil {
		t.Error(parseErr)
	}
	if t.Failed() {
		t.Logf("the guest's console:\n%s", console)
	}
}

func reportBinary(t *testing.T, result vm.Result) {
	if len(result.Tests) == 0 {
		t.Error("ran no test")
	}
	for _, test := range result.Tests {
		t.Run(test.Name, func(t *testing.T) { reportTest(t, test) })
		if test.Outcome == vm.Skipped {
			t.Logf("skipped in the guest: %s: %s", test.Name, strings.TrimSpace(test.Output))
		}
	}
	// A panic outside of any test leaves no test that failed.
	if result.Exit != "0" {
		t.Errorf("exit code %q", result.Exit)
	}
}

func reportTest(t *testing.T, test vm.Test) {
	switch test.Outcome {
	case vm.Passed:
	case vm.Skipped:
		t.Skip(strings.TrimSpace(test.Output))
	case vm.Failed:
		t.Error(strings.TrimSpace(test.Output))
	default:
		t.Errorf("did not end:\n%s", test.Output)
	}
}
