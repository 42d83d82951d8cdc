// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

// Check asks of some of the living processes, n at the most, whether they are gone: the record of an
// end may have been lost, and a process that moves out of scope leaves no record. Which are asked is
// left to the map's order, so that all have their turn.
func (x *Index) Check(n int, gone func(pid uint32, startTicks uint64) bool, now uint64) {
	for _, p := range x.live {
		if n--; n < 0 {
			return
		}
		if gone(p.PID, p.StartTicks) {
			x.end(p, now)
			p.isGone = true
		}
	}
}
