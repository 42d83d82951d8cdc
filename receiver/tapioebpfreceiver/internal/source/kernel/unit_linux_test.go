// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

func TestWithoutNested(t *testing.T) {
	for _, tt := range []struct {
		name        string
		given, want []string
	}{
		{"none", nil, nil},
		{"one", []string{"/a"}, []string{"/a"}},
		{"two", []string{"/b", "/a"}, []string{"/b", "/a"}},
		{"child and parent", []string{"/a/b", "/a"}, []string{"/a"}},
		{"grandchild", []string{"/a", "/a/b/c"}, []string{"/a"}},
		{"the same twice", []string{"/a", "/a"}, []string{"/a"}},
		{"one name begins like the other", []string{"/a", "/ab"}, []string{"/a", "/ab"}},
		{"siblings", []string{"/a/b", "/a/c"}, []string{"/a/b", "/a/c"}},
		{"root", []string{"/a", "/", "/b/c", "/"}, []string{"/"}},
		{"parent twice and child", []string{"/a", "/a", "/a/b"}, []string{"/a"}},
		{"between in order", []string{"/a", "/a-b", "/a/c"}, []string{"/a", "/a-b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var given []cgroup
			for _, path := range tt.given {
				given = append(given, cgroup{path: path})
			}
			var got []string
			for _, group := range withoutNested(given) {
				got = append(got, group.path)
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestScopeContains(t *testing.T) {
	named := scope{cgroups: []cgroup{{path: "/a"}, {path: "/b/c"}}}
	for path, want := range map[string]bool{
		"/a": true, "/a/b": true, "/a/b/c": true, "/b/c": true, "/b/c/d": true,
		"/": false, "": false, "/ab": false, "/b": false, "/b/cd": false, "/c": false, "/x/a": false,
	} {
		assert.Equal(t, want, named.contains(path), path)
	}
	root := scope{cgroups: []cgroup{{path: "/"}}}
	for _, path := range []string{"/", "/a", "/a/b"} {
		assert.True(t, root.contains(path), path)
	}
	assert.False(t, scope{}.contains("/"))
}

func TestMissingCapabilities(t *testing.T) {
	const (
		bpf      = uint64(1) << unix.CAP_BPF
		perfmon  = uint64(1) << unix.CAP_PERFMON
		netAdmin = uint64(1) << unix.CAP_NET_ADMIN
		sysAdmin = uint64(1) << unix.CAP_SYS_ADMIN
		others   = ^(bpf | perfmon | netAdmin | sysAdmin)

		needsBPF      = "CAP_BPF (to load eBPF programs)"
		needsPerfmon  = "CAP_PERFMON (to attach them to kernel tracepoints)"
		needsNetAdmin = "CAP_NET_ADMIN (to attach them to the traffic of cgroups)"
	)
	for _, tt := range []struct {
		name string
		has  uint64
		want []string
	}{
		{"none", 0, []string{needsBPF, needsPerfmon, needsNetAdmin}},
		{"others", others, []string{needsBPF, needsPerfmon, needsNetAdmin}},
		{"just these", bpf | perfmon | netAdmin, nil},
		{"all", ^uint64(0), nil},
		{"without CAP_BPF", perfmon | netAdmin, []string{needsBPF}},
		{"without CAP_PERFMON", bpf | netAdmin, []string{needsPerfmon}},
		{"without CAP_NET_ADMIN", bpf | perfmon, []string{needsNetAdmin}},
		{"CAP_SYS_ADMIN for what was part of it", sysAdmin | netAdmin, nil},
		{"CAP_SYS_ADMIN is not CAP_NET_ADMIN", sysAdmin, []string{needsNetAdmin}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, missingCapabilities(tt.has))
		})
	}
}

func TestEffectiveCapabilitiesAreThoseOfThisProcess(t *testing.T) {
	status, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	effective, err := effectiveCapabilities()
	require.NoError(t, err)
	assert.Contains(t, string(status), fmt.Sprintf("CapEff:\t%016x\n", effective))
}

func TestProgramOrderHasIteratorsLast(t *testing.T) {
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
		"report_sockets": {}, "find_sockets": {}, "zz_hook": {}, "tcp_read": {}, "report_flows": {}, "a_hook": {},
	}}
	assert.Equal(t, []string{"a_hook", "tcp_read", "zz_hook", "find_sockets", "report_flows", "report_sockets"}, programOrder(spec))
	assert.Empty(t, programOrder(&ebpf.CollectionSpec{}))
}

func TestProgramOrderHasEveryProgramOnce(t *testing.T) {
	for _, o := range objects {
		spec, err := o.load()
		require.NoError(t, err)
		order := programOrder(spec)
		assert.Len(t, order, len(spec.Programs), o.name)
		for _, name := range order {
			assert.Contains(t, spec.Programs, name)
			assert.NotEmpty(t, o.familiesOf(name, o.families), "%s is for no family", name)
		}
		for name := range o.usedBy {
			assert.Contains(t, spec.Programs, name)
		}
	}
}

// What is named here is looked up in the objects by its name, so a typing error would be silent.
func TestNamesAreThoseOfTheObjects(t *testing.T) {
	found, used := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		spec, err := o.load()
		require.NoError(t, err, o.name)
		for name, it := range iterators {
			program, ok := spec.Programs[name]
			if !ok {
				continue
			}
			found[name] = true
			assert.Equal(t, ebpf.AttachTraceIter, program.AttachType, name)
			if it.overMap != "" {
				assert.Contains(t, spec.Maps, it.overMap)
			}
		}
		for name := range spec.Maps {
			used[name] = true
		}
	}
	for name := range iterators {
		assert.True(t, found[name], "%s is in no object", name)
	}
	for _, name := range sharedMaps {
		assert.True(t, used[name], "%s is in no object", name)
	}
}

func TestReasonOf(t *testing.T) {
	cause := errors.New("invalid argument")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"any error", fmt.Errorf("attach: %w", cause), "attach: invalid argument"},
		{"verifier", &ebpf.VerifierError{Cause: cause, Log: []string{"0: r1 = 1", "R1 invalid mem access", "processed 12 insns (limit 1000000)", ""}},
			"invalid argument: R1 invalid mem access"},
		{"verifier of Linux 7", &ebpf.VerifierError{Cause: cause, Log: []string{"unknown func", "", "Reason:", "  The helper is not allowed.", "", "Suggestion:", "  Use another.", "processed 5 insns"}},
			"invalid argument: The helper is not allowed."},
		{"verifier whose log was cut off", &ebpf.VerifierError{Cause: cause, Log: []string{"unknown func", "Reason:"}}, "invalid argument: Reason:"},
		{"verifier within another error", fmt.Errorf("load program x: %w", &ebpf.VerifierError{Cause: cause, Log: []string{"unknown func", ""}}),
			"invalid argument: unknown func"},
		{"verifier without a log", &ebpf.VerifierError{Cause: cause}, "invalid argument"},
		{"verifier that says nothing", &ebpf.VerifierError{Cause: cause, Log: []string{"", "processed 0 insns"}}, "invalid argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, reasonOf(tt.err))
		})
	}
}

func TestIsDenied(t *testing.T) {
	assert.True(t, isDenied(fmt.Errorf("load: %w", unix.EPERM)))
	assert.False(t, isDenied(fmt.Errorf("load: %w", unix.EINVAL)))
	assert.False(t, isDenied(fmt.Errorf("load: %w", unix.ENOENT)))
}

func TestWithoutExchange(t *testing.T) {
	spec, err := bpf.LoadNetwork()
	require.NoError(t, err)
	exchanges := func() (n int) {
		for _, program := range spec.Programs {
			for _, instruction := range program.Instructions {
				if op := instruction.OpCode.AtomicOp(); op == asm.Xchg || op == asm.CmpXchg {
					n++
				}
			}
		}
		return n
	}
	assert.NotZero(t, exchanges())
	withoutExchange(spec)
	assert.Zero(t, exchanges())
}

// A kernel that refuses to verify the reading of HTTP and TLS still reports connections.
func TestOthersGoOnWithoutStreams(t *testing.T) {
	options := Options{MaxInFlight: 64, RingSize: 1 << 20, ReportInterval: time.Minute}
	for _, tt := range []struct {
		name     string
		families []string
		tls      bool
		want     []string
	}{
		{"http", []string{familyNetwork, familyHTTP}, false, []string{"[http] cgroup_skb/egress"}},
		{"tls", []string{familyNetwork}, true, []string{"[network] cgroup_skb/egress:tls_handshakes"}},
		{"both", []string{familyNetwork, familyHTTP}, true, []string{"[http] cgroup_skb/egress", "[network] cgroup_skb/egress:tls_handshakes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := options
			options.Families, options.TLSHandshakes = tt.families, tt.tls
			assert.Equal(t, tt.want, loadWithoutStreams(t, options))
		})
	}
}

// loadWithoutStreams returns what is reported as not to be had.
func loadWithoutStreams(t *testing.T, options Options) (reported []string) {
	requireBPF(t)
	s := &Source{options: options}
	types := btf.NewCache()
	features, err := detectFeatures(types)
	require.NoError(t, err)
	l := s.newLoader(features, 0, types)
	l.report = func(families []string, hook string, err error) {
		reported = append(reported, fmt.Sprint(families, " ", hook))
		assert.Error(t, err)
	}
	network := objects[objectOf(familyNetwork)]
	network.load = func() (*ebpf.CollectionSpec, error) {
		spec, err := bpf.LoadNetwork()
		if l.constants["http_enabled"] == true || l.constants["tls_enabled"] == true {
			for _, name := range readersOfStreams { // others verify the real ones, which takes long
				spec.Programs[name].Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
			}
			spec.Programs["packet_sent"].Instructions = asm.Instructions{asm.Return()} // of what is not said
		}
		return spec, err
	}
	loaded, err := l.loadObject(network, s.options, features)
	require.NoError(t, err)
	var names []string
	for _, p := range loaded {
		names = append(names, p.name)
		assert.Equal(t, []string{familyNetwork}, p.families)
	}
	assert.Subset(t, names, []string{"packet_sent", "packet_received", "tcp_state_changed", "find_sockets"})
	require.NoError(t, l.close())
	assert.Empty(t, l.opened)
	return reported
}
