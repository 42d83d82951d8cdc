// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxVerified is far below the million instructions after which a kernel refuses a program
// (BPF_COMPLEXITY_LIMIT_INSNS in its include/linux/bpf.h): for the same program, one version follows a third more
// than another, and nodes start the faster the fewer there are.
const maxVerified = 400_000

func TestProgramsAreFarFromTheVerifiersLimit(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		withTLSAndHTTP(o)
		o.RateLimits = map[string]uint64{familyNetwork: 1000, familyDNS: 1000, familyHTTP: 1000}
	})
	var programs int
	for _, opened := range w.source.loader.opened {
		program, ok := opened.(*ebpf.Program)
		if !ok {
			continue
		}
		info, err := program.Info()
		require.NoError(t, err)
		verified, ok := info.VerifiedInstructions()
		if !ok {
			t.Skip("a kernel before Linux 5.16 does not say how many instructions it followed")
		}
		t.Logf("%s: %d instructions", info.Name, verified)
		assert.Less(t, verified, uint32(maxVerified), info.Name)
		programs++
	}
	assert.Greater(t, programs, 10)
}
