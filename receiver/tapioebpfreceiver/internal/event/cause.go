// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import "github.com/tapio-io/otelcol-tapio/bpf"

// Flags of a cause.
const (
	CauseServer    = uint32(bpf.WireCauseFlagsCAUSE_SERVER)
	CauseThread    = uint32(bpf.WireCauseFlagsCAUSE_THREAD)
	CauseSole      = uint32(bpf.WireCauseFlagsCAUSE_SOLE)
	CauseDedicated = uint32(bpf.WireCauseFlagsCAUSE_DEDICATED)
	CauseAnswered  = uint32(bpf.WireCauseFlagsCAUSE_ANSWERED)
)
