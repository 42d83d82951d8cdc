// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	results, err := Parse(`SeaBIOS
@@READY kernel=6.1.0
=== RUN   TestA
=== PAUSE TestA
=== RUN   TestB
    b_test.go:1: first
=== CONT  TestA
    a_test.go:1: other
=== NAME  TestB
    b_test.go:2: second
printed without a newline--- FAIL: TestB (1.20s)
--- PASS: TestA (0.12s)
FAIL

@@RESULT first exit=1
=== RUN   TestC
=== RUN   TestC/sub_one
    c_test.go:9: no such device
--- PASS: TestC (0.00s)
    --- SKIP: TestC/sub_one (0.00s)
PASS

@@RESULT second exit=0
=== RUN   TestD
[    3.1] Kernel panic - not syncing
`)
	require.NoError(t, err)
	assert.Equal(t, []Result{
		{Binary: "first", Exit: "1", Tests: []Test{
			{Name: "TestA", Outcome: Passed, Output: "    a_test.go:1: other\n"},
			{Name: "TestB", Outcome: Failed, Output: "    b_test.go:1: first\n    b_test.go:2: second\n"},
		}},
		{Binary: "second", Exit: "0", Tests: []Test{
			{Name: "TestC", Outcome: Passed},
			{Name: "TestC/sub_one", Outcome: Skipped, Output: "    c_test.go:9: no such device\n"},
		}},
		{Tests: []Test{
			{Name: "TestD", Output: "[    3.1] Kernel panic - not syncing\n"},
		}},
	}, results)
}

func TestParseFatal(t *testing.T) {
	_, err := Parse("@@FATAL mount bpf at /sys/fs/bpf: no such device\n")
	require.EqualError(t, err, "in the guest: mount bpf at /sys/fs/bpf: no such device")
}
