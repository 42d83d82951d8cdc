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

	grace   time.Duration // how long after the start nothing fatal is told
	fatal   *time.Timer   // tells it then
	failure error         // what is fatal; nil: nothing is
	ended   bool          // nothing fatal is told any more
}

// startGrace is for the other components to start.
const startGrace = 5 * time.Second

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

func (s *status) tell(event *componentstatus.Event) {
	s.last = event
	for _, host := range s.hosts {
		componentstatus.ReportStatus(host, event)
	}
}

// fail says that the receiver cannot go on, for which the collector ends. It takes one fatal error, from one instance: whoever
// reports another waits for ever, and with him all who report or need the status of anything, as the collector does to
// shut down. It takes none before all has started and none when it shuts down. So one is told, when the start must be over,
// by somebody whom nobody waits for; the other instances have an error that lasts.
func (s *status) fail(err error, started time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	if s.ended {
		return
	}
	s.last = componentstatus.NewPermanentErrorEvent(err)
	for _, host := range s.hosts[1:] {
		componentstatus.ReportStatus(host, s.last)
	}
	s.fatal = time.AfterFunc(time.Until(started.Add(s.grace)), s.tellFatal)
}

func (s *status) tellFatal() {
	s.mu.Lock()
	host, err, ended := s.hosts[0], s.failure, s.ended
	s.mu.Unlock()
	if !ended {
		componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
	}
}

// end is when the collector ends: it takes no fatal error any more.
func (s *status) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.fatal != nil {
		s.fatal.Stop()
	}
}

// failed returns what was fatal. A collector that has ended for it ends well unless its shutdown fails, too, and whoever runs
// it would not know.
func (s *status) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
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
	if s.failure != nil {
		return
	}
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
	if len(s.troubles) == 0 && s.failure == nil {
		s.tell(componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
