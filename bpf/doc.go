// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side: the C sources, one file a family of events, their compiled
// objects, and the Go types of the records that they send, which are generated from event.h.
//
// The objects are committed, so that building the receiver needs neither clang nor kernel headers.
// Those of the bpfel files serve amd64 and arm64: what differs between kernels and architectures is
// relocated at load time (CO-RE). Those of the bpfeb files let the module build on big-endian
// platforms, where the receiver refuses to start. "make generate" compiles them again.
package bpf
