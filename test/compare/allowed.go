// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package compare // import "github.com/tapio-io/otelcol-tapio/test/compare"

// Allowed are the differences between the sources ebpf and simulator that may be, and why.
var Allowed = []Allowance{}
