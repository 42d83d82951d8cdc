// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package replay // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"

import (
	"errors"
	"io"
	"time"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
)

// longestTurn is how long is waited for one at the most, at the speed that it was recorded at: a turn ends with the
// flush interval, of 10 s at the most, and takes longer only where the reader was held up.
const longestTurn = 15 * time.Second

// contents of a recording, but for its records.
type contents struct {
	description recording.Description
	cgroups     []source.Cgroup
	processes   []source.Process
	turns       []recording.Clock // at their ends; at least one
	ends        []time.Duration   // of turns, since that of the first
	records     int
	hasNames    bool
	end         recording.End
	cut         bool
}

var errEmpty = errors.New("there is nothing in it: it was ended before its first turn")

// survey reads all of a recording.
func survey(from io.Reader) (contents, error) {
	reader, err := recording.NewReader(from)
	if err != nil {
		return contents{}, err
	}
	c := contents{description: reader.Description()}
	for {
		frame, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, recording.ErrCut):
			c.cut = errors.Is(err, recording.ErrCut)
			return c, c.check()
		case err != nil:
			return contents{}, err
		}
		if err := c.note(frame); err != nil {
			return contents{}, err
		}
	}
}

func (c *contents) note(frame recording.Frame) error {
	switch frame.Kind {
	case recording.KindRecord:
		c.records++
	case recording.KindClock:
		c.noteTurn(frame.Clock())
	case recording.KindCgroups:
		return frame.JSON(&c.cgroups)
	case recording.KindProcesses:
		return frame.JSON(&c.processes)
	case recording.KindNames:
		c.hasNames = true
	case recording.KindEnd:
		return frame.JSON(&c.end)
	}
	return nil
}

// noteTurn tells how long it took by what the clock says, which may have been set meanwhile: until that was measured, the
// step is in the time since boot as well.
func (c *contents) noteTurn(clock recording.Clock) {
	end := time.Duration(0)
	if n := len(c.turns); n > 0 {
		took := time.Duration(int64(clock.Boot - c.turns[n-1].Boot))
		end = c.ends[n-1] + min(max(took, 0), longestTurn)
	}
	c.turns, c.ends = append(c.turns, clock), append(c.ends, end)
}

func (c *contents) check() error {
	if len(c.turns) == 0 {
		return errEmpty
	}
	return nil
}
