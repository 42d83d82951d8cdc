// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"slices"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// weights are how many of a node's events are of a family, of those that there are.
var weights = map[event.Family]float64{
	event.FamilyNetwork:  35,
	event.FamilyHTTP:     24,
	event.FamilyProcess:  17,
	event.FamilySecurity: 13,
	event.FamilyDNS:      12,
}

// shares choose stories such that the families keep their shares.
type shares struct {
	wanted [event.FamilyCount]float64 // of 1
	told   [event.FamilyCount]uint64
	all    uint64
}

func newShares(families []string) (s shares) {
	var sum float64
	for family, weight := range weights {
		if slices.Contains(families, family.String()) {
			s.wanted[family] = weight
			sum += weight
		}
	}
	for family := range s.wanted {
		s.wanted[family] /= max(sum, 1)
	}
	return s
}

func (s *shares) count(family event.Family) {
	if s.wanted[family] == 0 {
		return
	}
	s.told[family]++
	s.all++
}

// behind is how many events a family has too few; most is the one that has the most of these.
func (s *shares) behind(family event.Family) float64 {
	// the product is rounded on its own: one that is fused with the difference, as on arm64, is another one at times
	return float64(s.wanted[family]*float64(s.all)) - float64(s.told[family])
}

func (s *shares) mostBehind() event.Family {
	most := event.FamilyNetwork
	for family := range event.FamilyCount {
		if s.wanted[family] > 0 && (s.wanted[most] == 0 || s.behind(family) > s.behind(most)) {
			most = family
		}
	}
	return most
}

// hasRoom for a story that has something of all families: none of those that it has the most of is ahead.
func (s *shares) hasRoom() bool {
	return s.behind(event.FamilyDNS) >= 0 && s.behind(event.FamilyNetwork) >= 0
}

// choose a story of the family that is the furthest behind. One that had nothing to tell, as where all rules that
// its story is of are off, has had its turn: the others go on.
func (s *shares) choose(t *story, now uint64) {
	family := s.mostBehind()
	before := s.told[family]
	s.tell(family, t, now)
	if s.told[family] == before {
		s.told[family]++
	}
}

func (s *shares) tell(family event.Family, t *story, now uint64) {
	switch family {
	case event.FamilyProcess:
		t.ofProcesses(now, s.hasRoom())
	case event.FamilyHTTP:
		t.ofRequests(now, s.hasRoom())
	case event.FamilyDNS:
		t.ofNames(now)
	case event.FamilySecurity:
		t.ofSecurity(now, s.behind(event.FamilyProcess) >= 0)
	default:
		t.ofConnections(now)
	}
}

func (s *story) ofProcesses(now uint64, hasRoom bool) {
	switch {
	case s.chance(s.scenarios.Attack):
		s.attack(now)
	case s.chance(s.scenarios.CrashLoop):
		s.crashLoop(now)
	case s.chance(s.scenarios.Errors / 2):
		s.errand(now)
	case hasRoom && s.chance(0.1), s.chance(0.03):
		s.job(now)
	default:
		s.probe(now)
	}
}

func (s *story) ofRequests(now uint64, hasRoom bool) {
	switch {
	case hasRoom && s.chance(0.6):
		s.visit(s.anyPodOfAll().server, s.services["frontend"], now)
	case hasRoom && s.chance(0.25), s.chance(0.02):
		s.visitFromOutside(now)
	default:
		s.kept(now)
	}
}

func (s *story) ofNames(now uint64) {
	switch {
	case s.chance(s.scenarios.NXDomainStorm):
		s.nxdomainStorm(now)
	case s.chance(s.scenarios.Errors):
		s.askInVain(s.anyPodOfAll().server, now)
	case s.chance(0.04):
		s.lastingFlow(now)
	default:
		p := s.anyPodOfAll()
		s.find(p.server, s.notCalled(p), now)
	}
}

func (s *story) ofConnections(now uint64) {
	switch {
	case s.chance(s.scenarios.NoisyNeighbor):
		s.noisyNeighbor(now)
	case s.chance(s.scenarios.Errors):
		s.refused(s.anyPodOfAll().server, now)
	case s.chance(0.02):
		s.lastingConnection(now)
	default:
		s.work(s.anyPodOfAll().server, s.services["postgres"], now)
	}
}
