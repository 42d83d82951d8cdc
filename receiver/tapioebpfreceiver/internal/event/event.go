// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package event is a record decoded. It checks what arrives and gives it names; it knows neither
// pdata nor the kernel.
//
// A decoded event is a view of the record's bytes and valid as long as these are.
package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// Type of an event; its high byte is the family.
type Type uint16

// Types, as bpf/event.h has them.
const (
	TypeProcessExec       = Type(bpf.WireEventTypePROCESS_EXEC)
	TypeProcessFork       = Type(bpf.WireEventTypePROCESS_FORK)
	TypeProcessExit       = Type(bpf.WireEventTypePROCESS_EXIT)
	TypeProcessOOMKill    = Type(bpf.WireEventTypePROCESS_OOM_KILL)
	TypeConnectionConnect = Type(bpf.WireEventTypeCONNECTION_CONNECT)
	TypeConnectionClose   = Type(bpf.WireEventTypeCONNECTION_CLOSE)
	TypeConnectionReport  = Type(bpf.WireEventTypeCONNECTION_REPORT)
	TypeTLSHandshake      = Type(bpf.WireEventTypeTLS_HANDSHAKE)
	TypeDNSMessage        = Type(bpf.WireEventTypeDNS_MESSAGE)
	TypeDNSSegment        = Type(bpf.WireEventTypeDNS_SEGMENT)
	TypeHTTPExchange      = Type(bpf.WireEventTypeHTTP_EXCHANGE)
	TypeSecurityAction    = Type(bpf.WireEventTypeSECURITY_ACTION)
	TypeCNIBegan          = Type(bpf.WireEventTypeCNI_BEGAN)
	TypeCNIEnded          = Type(bpf.WireEventTypeCNI_ENDED)
	TypeCNINetnsMade      = Type(bpf.WireEventTypeCNI_NAMESPACE_MADE)
	TypeCNINetnsRemoved   = Type(bpf.WireEventTypeCNI_NAMESPACE_REMOVED)
	TypeEtcdCall          = Type(bpf.WireEventTypeETCD_CALL)
	TypeEtcdChange        = Type(bpf.WireEventTypeETCD_CHANGE)
	TypeThrottling        = Type(bpf.WireEventTypeTHROTTLING)
	TypeHTTPSum           = Type(bpf.WireEventTypeHTTP_SUM)
	TypeConnectionSum     = Type(bpf.WireEventTypeCONNECTION_SUM)
	TypeProcessSum        = Type(bpf.WireEventTypePROCESS_SUM)
	TypeTLSSum            = Type(bpf.WireEventTypeTLS_SUM)
	TypeCgroupMade        = Type(bpf.WireEventTypeCGROUP_MADE)
	TypeCgroupRemoved     = Type(bpf.WireEventTypeCGROUP_REMOVED)
	TypeCgroupJoined      = Type(bpf.WireEventTypeCGROUP_JOINED)
)

// Family of events.
type Family uint8

// Families, as bpf/event.h has them.
const (
	FamilyOther    Family = 0 // records of which not even the type can be told
	FamilyProcess         = Family(bpf.WireEventFamilyFAMILY_PROCESS)
	FamilyNetwork         = Family(bpf.WireEventFamilyFAMILY_NETWORK)
	FamilyDNS             = Family(bpf.WireEventFamilyFAMILY_DNS)
	FamilyHTTP            = Family(bpf.WireEventFamilyFAMILY_HTTP)
	FamilySecurity        = Family(bpf.WireEventFamilyFAMILY_SECURITY)
	FamilyCNI             = Family(bpf.WireEventFamilyFAMILY_CNI)
	FamilyEtcd            = Family(bpf.WireEventFamilyFAMILY_ETCD)
	// FamilyThrottle says which events of other families were beyond the limits.
	FamilyThrottle = Family(bpf.WireEventFamilyFAMILY_THROTTLE)
	// FamilyCgroup is no family of events: its records tell identity whose a process is.
	FamilyCgroup = Family(bpf.WireEventFamilyFAMILY_CGROUP)
	FamilyCount  = Family(bpf.WireEventFamilyFAMILY_COUNT)
)

// familyNames are those that config, ledger and docs use.
var familyNames = [FamilyCount]string{
	FamilyOther:    "other",
	FamilyProcess:  "process",
	FamilyNetwork:  "network",
	FamilyDNS:      "dns",
	FamilyHTTP:     "http",
	FamilySecurity: "security",
	FamilyCNI:      "cni",
	FamilyEtcd:     "etcd",
	FamilyThrottle: "throttle",
	FamilyCgroup:   "cgroup",
}

// String is the family's name; empty for a number that is no family.
func (f Family) String() string {
	if f >= FamilyCount {
		return ""
	}
	return familyNames[f]
}

// Family of a type; FamilyOther if there is none.
func (t Type) Family() Family {
	if f := Family(t >> 8); f.String() != "" {
		return f
	}
	return FamilyOther
}

// ErrUndecodable is behind every error of this package.
var ErrUndecodable = errors.New("record cannot be decoded")

// Header is what every record starts with.
type Header = bpf.WireEventHeader

// DecodeHeader tells what a record is.
func DecodeHeader(record []byte) (*Header, error) {
	return view[Header](record, false)
}

// view lets the record be seen as a T. Nothing is copied: the generated types have the record's
// layout, and every buffer that records arrive in is aligned for them.
func view[T any](record []byte, exact bool) (*T, error) {
	var t T
	size := int(unsafe.Sizeof(t))
	if len(record) < size || exact && len(record) != size {
		return nil, fmt.Errorf("%w: %d bytes, want %d for %T", ErrUndecodable, len(record), size, t)
	}
	at := unsafe.Pointer(unsafe.SliceData(record))
	if uintptr(at)%unsafe.Alignof(uint64(0)) != 0 {
		return nil, fmt.Errorf("%w: not aligned for %T", ErrUndecodable, t)
	}
	return (*T)(at), nil
}
