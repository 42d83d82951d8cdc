// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

// callPrefix is that of the functions for system calls: arch/arm64/include/asm/syscall_wrapper.h.
const callPrefix = "__arm64_sys_"

// oldOpens and oldChmods are calls that this architecture does not have.
var oldOpens, oldChmods []call
