// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

import "slices"

// The sources that are compared.
const (
	Kernel    = "ebpf"
	Simulator = "simulator"
)

// Reasons why something may differ between the two.
const (
	reasonSource    = "tapio.source says where the data is from."
	reasonLoopback  = "The real pods talk over the loopback interface, whose addresses are nobody's: their peers have no names."
	reasonNames     = "The simulator asks no API server, and so does not tell of one."
	reasonTick      = "A process that ended before its first tick has no CPU time, and no I/O: the kernel has not counted it. Which do is chance."
	reasonStarter   = "A process that never needed more memory than what has started it has no peak that is known. Which do depends on both."
	reasonLauncher  = "The real workload is started from outside of what is observed: the executable of such a process is not known before its exec."
	reasonOutside   = "The real workload is started from outside of what is observed: nothing is known of the parents of such a process."
	reasonHooks     = "The simulator has no hooks in a kernel that it could tell of."
	reasonFunctions = "Of move_mount(2), and where the functions of the kernel cannot be traced, the target of a mount is as the caller named it."
	reasonNotBuilt  = "This kernel was not built to do it, so nobody can try."
)

// Allowed are the differences between the sources ebpf and simulator that may be. Whatever is not here is a
// difference to be mended: by the simulator, if it lacks or invents something.
var Allowed = slices.Concat(
	[]Allowance{
		{Kind: ValuesDiffer, Name: "resource", Feature: sourceFeature, Reason: reasonSource},
		{Kind: FeatureMissing, Family: endpoints, Name: "/stats", Feature: "key .capabilities[].*", More: Kernel, Reason: reasonHooks},
		{Kind: FeatureMissing, Family: endpoints, Name: "/stats", Feature: "key .kubernetes.*", More: Kernel, Reason: reasonNames},
	},
	namesOfPeers(),
	asked("security.mount", "tapio.security.mount"),
	sometimes("process", "", "", reasonTick,
		"attribute tapio.process.cpu.time", "attribute tapio.process.io.read_bytes", "attribute tapio.process.io.written_bytes"),
	sometimes("process", "", "", reasonStarter, "attribute tapio.process.memory.peak"),
	[]Allowance{
		{Kind: FeatureMissing, Family: "process", Feature: "attribute tapio.process.memory.peak", More: Simulator, Reason: reasonStarter},
	},
	sometimes("process", "tapio.process.fork", Simulator, reasonLauncher, "attribute process.executable.name"),
	sometimes("security", "", Simulator, reasonOutside, "attribute tapio.security.ancestors"),
	sometimes("process", "resource", Simulator, reasonLauncher, "attribute process.executable.name", "attribute process.executable.path", "attribute service.name"),
)

// asked are records of mounts: which of them have a target that was found out depends on the kernel and on mount(8).
func asked(names ...string) (allowed []Allowance) {
	for _, name := range names {
		allowed = append(allowed, Allowance{
			Kind: FeatureMissing, Family: "security", Name: name, Feature: "attribute tapio.security.file.unresolved", More: Kernel, Reason: reasonFunctions,
		})
	}
	return allowed
}

// NotBuilt are the differences that may be where a kernel was not built to do what rules of the family security are
// about: "kernel.kexec".
func NotBuilt(rules ...string) (allowed []Allowance) {
	for _, rule := range rules {
		for _, prefix := range []string{"security.", "tapio.security."} {
			allowed = append(allowed, Allowance{Kind: GroupMissing, Family: "security", Name: prefix + rule, More: Simulator, Reason: reasonNotBuilt})
		}
	}
	return allowed
}

func namesOfPeers() (allowed []Allowance) {
	for _, feature := range []string{"attribute tapio.peer.k8s.*", "attribute service.peer.*"} {
		allowed = append(allowed, Allowance{Kind: FeatureMissing, Feature: feature, More: Simulator, Reason: reasonLoopback})
	}
	return allowed
}

// sometimes are features that some records of the one have and others have not, while all of the other's have them.
func sometimes(family, name, more, reason string, features ...string) (allowed []Allowance) {
	for _, feature := range features {
		allowed = append(allowed, Allowance{Kind: FeatureRarer, Family: family, Name: name, Feature: feature, More: more, Reason: reason})
	}
	return allowed
}
