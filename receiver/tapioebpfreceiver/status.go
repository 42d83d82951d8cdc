// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"sync"

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
}

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
func (s *status) consumed(signal pipeline.Signal, err error) { s.trouble(signal.String(), err) }

// trouble notes what does not work for now, or works again if err is nil; told is only what changes.
func (s *status) trouble(with string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := len(s.troubles) > 0
	if err == nil {
		delete(s.troubles, with)
	} else {
		if s.troubles == nil {
			s.troubles = map[string]error{}
		}
		s.troubles[with] = err
	}
	switch is := len(s.troubles) > 0; {
	case is && !was:
		s.tell(componentstatus.NewRecoverableErrorEvent(err))
	case was && !is:
		s.tell(componentstatus.NewEvent(componentstatus.StatusOK))
	}
}

// started tells that all is well, unless it was told already what is not.
func (s *status) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.troubles) == 0 {
		s.tell(componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
