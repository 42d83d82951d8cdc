// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"

import (
	"fmt"
	"slices"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// Flags of a Throttling.
const (
	ThrottlingBegan = uint32(bpf.WireThrottlingFlagsTHROTTLING_BEGAN)
	ThrottlingEnded = uint32(bpf.WireThrottlingFlagsTHROTTLING_ENDED)
)

// Throttling is how many events of a cgroup were beyond its limit since the last of these records.
type Throttling struct {
	*bpf.WireThrottling
}

// DecodeThrottling views a record as a Throttling. It is of a family that can have a limit.
func DecodeThrottling(record []byte) (Throttling, error) {
	fixed, err := view[bpf.WireThrottling](record, true)
	if err != nil {
		return Throttling{}, err
	}
	e := Throttling{fixed}
	if !slices.Contains(LimitedFamilies, e.Limited()) {
		return Throttling{}, fmt.Errorf("%w: a limit of family %d", ErrUndecodable, fixed.Family)
	}
	return e, nil
}

// Limited is the family whose limit it was.
func (e Throttling) Limited() Family { return Family(min(e.Family, uint16(FamilyCount))) }

// SecurityKind is the kind of action that has a limit of its own; 0: the limit is of the family.
func (e Throttling) SecurityKind() SecurityKind { return SecurityKind(e.Kind) }

// LimitedFamilies are those that can have a limit of events a second.
var LimitedFamilies = []Family{FamilyProcess, FamilyNetwork, FamilyDNS, FamilyHTTP, FamilySecurity, FamilyEtcd}
