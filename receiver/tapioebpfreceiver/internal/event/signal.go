// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import "strconv"

// signalNames as Linux numbers them on amd64 and arm64 (asm-generic/signal.h). Not those of package
// unix: records are translated on other systems too.
var signalNames = [...]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
	8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
	14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP",
	20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ",
	26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}

// firstRealTime is the kernel's SIGRTMIN; it has no names of its own for these signals.
const firstRealTime = 32

// SignalName of a number, as "SIGKILL", "SIGRTMIN+2"; empty for 0.
func SignalName(number int) string {
	switch {
	case number <= 0:
		return ""
	case number < len(signalNames):
		return signalNames[number]
	default:
		return "SIGRTMIN+" + strconv.Itoa(number-firstRealTime)
	}
}
