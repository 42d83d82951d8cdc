// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension // import "github.com/tapio-io/otelcol-tapio/extension/tapioextension"

import (
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

// registry has the receivers that run, by their ids as the configuration writes them.
type registry struct {
	mu        sync.RWMutex
	receivers map[string]*registration
}

type registration struct {
	stats func() tapioebpfreceiver.Stats
}

// RegisterStats adds a receiver, in place of one with the same id. unregister waits for calls of
// stats to return, hence a receiver must not hold a lock then that its stats also takes.
func (r *registry) RegisterStats(id component.ID, stats func() tapioebpfreceiver.Stats) (unregister func()) {
	added := &registration{stats: stats}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receivers == nil {
		r.receivers = map[string]*registration{}
	}
	r.receivers[id.String()] = added
	return func() { r.remove(id.String(), added) }
}

// remove does nothing if somebody else has taken the id since.
func (r *registry) remove(id string, added *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receivers[id] == added {
		delete(r.receivers, id)
	}
}

// ids are sorted.
func (r *registry) ids() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.receivers))
}

// stats asks a receiver. It holds the lock meanwhile, so that no receiver is asked once it has
// unregistered.
func (r *registry) stats(id string) (tapioebpfreceiver.Stats, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	receiver, ok := r.receivers[id]
	if !ok {
		return tapioebpfreceiver.Stats{}, false
	}
	return receiver.stats(), true
}
