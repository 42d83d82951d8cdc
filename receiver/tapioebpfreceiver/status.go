// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/pipeline"
)

// status tells the collector how the receiver does. The collector keeps a status for each signal's
// instance, with a host of its own, and all of them are this one receiver.
type status struct {
	mu       sync.Mutex
	hosts    []component.Host
	last     *componentstatus.Event
	troubles map[string]error // by what has them
	told     string           // which of them the collector knows; empty: none
	reason   string           // that was told for it
	toldAt   time.Time        // when it was
}

// consumerPause is how often the collector is told another reason why data is refused: there may be one for each batch.
const consumerPause = time.Minute

// add has the host told from now on, and of what was said last.
func (s *status) add(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = append(s.hosts, host)
	if s.last != nil {
		componentstatus.ReportStatus(host, s.last)
	}
}

func (s *status) report(event *componentstatus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(event)
}

func (s *status) tell(event *componentstatus.Event) {
	s.last = event
	for _, host := range s.hosts {
		componentstatus.ReportStatus(host, event)
	}
}

// consumed notes whether the next component took a signal's data.
func (s *status) consumed(signal pipeline.Signal, err error) {
	s.note(signal.String(), err, consumerPause)
}

// trouble notes what does not work for now, or works again if err is nil; told is only what changes. Of several
// troubles one is told, and another one when that is over.
func (s *status) trouble(with string, err error) { s.note(with, err, 0) }

// note a trouble. Another reason for the one that was told is told if a pause has gone by.
func (s *status) note(with string, err error, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.troubles, with)
	} else {
		if s.troubles == nil {
			s.troubles = map[string]error{}
		}
		s.troubles[with] = err
	}
	switch {
	case err == nil && s.told == with:
		s.tellRemaining()
	case err != nil && (s.told == "" || s.told == with && err.Error() != s.reason && time.Since(s.toldAt) >= pause):
		s.tellTrouble(with)
	}
}

func (s *status) tellTrouble(with string) {
	err := s.troubles[with]
	s.told, s.reason, s.toldAt = with, err.Error(), time.Now()
	s.tell(componentstatus.NewRecoverableErrorEvent(err))
}

// tellRemaining trouble, or that there is none.
func (s *status) tellRemaining() {
	if len(s.troubles) > 0 {
		s.tellTrouble(slices.Min(slices.Collect(maps.Keys(s.troubles))))
		return
	}
	s.told = ""
	s.tell(componentstatus.NewEvent(componentstatus.StatusOK))
}

// started tells that all is well, unless it was told already what is not.
func (s *status) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.troubles) == 0 {
		s.tell(componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
