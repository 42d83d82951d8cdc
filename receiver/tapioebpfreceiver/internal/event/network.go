// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"net/netip"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// Roles of this side in a connection.
const (
	RoleUnknown = uint8(bpf.WireConnectionRoleROLE_UNKNOWN)
	RoleClient  = uint8(bpf.WireConnectionRoleROLE_CLIENT)
	RoleServer  = uint8(bpf.WireConnectionRoleROLE_SERVER)
)

// Flags of a connection_stats record.
const (
	ConnectionFirstRecord = uint32(bpf.WireConnectionFlagsCONNECTION_FIRST_RECORD)
	ConnectionAborted     = uint32(bpf.WireConnectionFlagsCONNECTION_ABORTED)
	ConnectionHasRTT      = uint32(bpf.WireConnectionFlagsCONNECTION_HAS_RTT)
)

// Protocols, IANA's numbers.
const (
	ProtocolTCP = uint8(6)
	ProtocolUDP = uint8(17)
)

// NoErrno stands in connection_connect's error where the kernel kept none.
const NoErrno = int32(-1)

// DecodeConnectionConnect views a record as the end of a handshake.
func DecodeConnectionConnect(record []byte) (*bpf.WireConnectionConnect, error) {
	e, err := view[bpf.WireConnectionConnect](record, true)
	if err != nil {
		return nil, err
	}
	return e, checkOrder(e.Opened, e.Header.Time)
}

// DecodeConnectionStats views a record as what a connection carried.
func DecodeConnectionStats(record []byte) (*bpf.WireConnectionStats, error) {
	e, err := view[bpf.WireConnectionStats](record, true)
	if err != nil {
		return nil, err
	}
	return e, checkOrder(e.Opened, e.Header.Time)
}

func checkOrder(begin, end uint64) error {
	if begin > end {
		return fmt.Errorf("%w: it ends %d ns before it begins", ErrUndecodable, begin-end)
	}
	return nil
}

// Address in the record's form, IPv4 as IPv4.
func Address(bytes [16]byte) netip.Addr {
	return netip.AddrFrom16(bytes).Unmap()
}

// Values of error.type for connections.
const (
	ErrorConnectionRefused  = "connection_refused"
	ErrorConnectionReset    = "connection_reset"
	ErrorTimedOut           = "timed_out"
	ErrorHostUnreachable    = "host_unreachable"
	ErrorNetworkUnreachable = "network_unreachable"
	// ErrorOther is the conventions' value for what has no name.
	ErrorOther = "_OTHER"
)

// errorTypes by errno, as amd64 and arm64 number them (asm-generic/errno.h). A peer's reset is
// EPIPE on a connection whose peer had closed before.
var errorTypes = map[int32]string{
	32:  ErrorConnectionReset, // EPIPE
	104: ErrorConnectionReset, // ECONNRESET
	111: ErrorConnectionRefused,
	110: ErrorTimedOut,
	113: ErrorHostUnreachable,
	101: ErrorNetworkUnreachable,
	125: ErrorCanceled,           // ECANCELED
	99:  "address_not_available", // EADDRNOTAVAIL
	103: "connection_aborted",    // ECONNABORTED
}

// ErrorType of an errno; empty for 0.
func ErrorType(errno int32) string {
	if errno == 0 {
		return ""
	}
	if name, ok := errorTypes[errno]; ok {
		return name
	}
	return ErrorOther
}
