// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// TestALongRun: over hours of the world's time, and at any rate, the families have their shares and the rate holds,
// each within 2 % of what it should be.
func TestALongRun(t *testing.T) {
	for _, tt := range []struct {
		rate     float64
		duration time.Duration
		change   func(*Options)
	}{
		{rate: 3, duration: 6 * time.Hour},
		{rate: 3, duration: 6 * time.Hour, change: func(o *Options) { o.Seed, o.Pods = 99, 1 }},
		{rate: 300, duration: 5 * time.Minute},
		{rate: 20_000, duration: 20 * time.Second, change: func(o *Options) { o.ReportInterval = time.Second }},
	} {
		o := options(1)
		o.Rate, o.ReportInterval = tt.rate, time.Minute
		o.Scenarios = Scenarios{Errors: 0.03, SearchLists: 0.3, NXDomainStorm: 0.01, CrashLoop: 0.02, NoisyNeighbor: 0.002, Attack: 0.002} // as by default
		if tt.change != nil {
			tt.change(&o)
		}
		s := newSource(t, o)
		counts, all := map[event.Family]float64{}, 0.0
		end := firstBoot + uint64(tt.duration)
		readUntil(s, end, func(record []byte) {
			if family := familyOf(t, record); family != event.FamilyCgroup {
				counts[family]++
				all++
			}
		})
		assert.InEpsilon(t, tt.rate*tt.duration.Seconds(), all, 0.02, "events in %v at %v a second", tt.duration, tt.rate)
		for family, weight := range weights {
			assert.InEpsilon(t, weight/101, counts[family]/all, 0.02, "%v in %v at %v a second", family, tt.duration, tt.rate)
		}
	}
}
