// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func (s *Source) hooksIn(state string) (hooks []string) {
	for _, c := range s.capabilities {
		if c.State == state {
			hooks = append(hooks, c.Hook)
		}
	}
	return hooks
}

// TestACgroupThatIsRemovedDuringTheStart does not take the others with it; one that cannot be had for another reason does.
func TestACgroupThatIsRemovedDuringTheStart(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { o.Families = []string{familyNetwork} })
	received := program{name: "packet_received", spec: &ebpf.ProgramSpec{AttachType: ebpf.AttachCGroupInetIngress}}
	received.program = w.source.programs[w.source.indexOf(received.name)].program
	links := len(w.source.links)
	require.NoError(t, w.source.detach(received.name))
	require.Len(t, w.source.links, links-1)

	there := w.source.scope.cgroups
	removed, broken := there[0], there[0]
	removed.dir += "/removed"
	w.source.scope.cgroups = append(there[:1:1], removed)
	require.NoError(t, w.source.attachToCgroups(received))
	assert.Len(t, w.source.links, links)

	require.NoError(t, w.source.detach(received.name))
	w.source.scope.cgroups = []cgroup{removed}
	require.ErrorContains(t, w.source.attachToCgroups(received), "cgroup "+removed.path, "none is left")

	broken.dir = t.TempDir() // no cgroup
	w.source.scope.cgroups = append(there[:1:1], broken)
	require.ErrorContains(t, w.source.attachToCgroups(received), "cgroup "+broken.path)
	assert.Len(t, w.source.links, links-1, "it is at all of them or at none")
	w.source.scope.cgroups = there
}

// TestOneDirectionAloneIsNotUsed: it would tell of questions without answers.
func TestOneDirectionAloneIsNotUsed(t *testing.T) {
	w := newOwnWorld(t, func(o *Options) { o.Families = []string{familyNetwork} })
	require.NoError(t, w.source.dropHalf())
	assert.Subset(t, w.source.hooksIn(source.Attached), []string{"cgroup_skb/egress", "cgroup_skb/ingress"})

	links := len(w.source.links)
	require.NoError(t, w.source.detach("packet_sent"))
	w.source.capabilities[w.source.indexOf("packet_sent")].State = source.Denied
	require.NoError(t, w.source.dropHalf())
	assert.Equal(t, []string{"cgroup_skb/ingress"}, w.source.hooksIn(source.Unsupported))
	assert.Len(t, w.source.links, links-2)
	require.NoError(t, w.source.dropHalf(), "there is none left")
}
