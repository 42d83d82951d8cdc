// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// clockReadings is how often the two clocks are compared: the closest pair is taken, so that being
// interrupted between them does no harm.
const clockReadings = 5

// BootTime implements source.Source.
func (*Source) BootTime() (int64, error) {
	best, width := int64(0), int64(-1)
	for range clockReadings {
		before, err := clock(unix.CLOCK_BOOTTIME)
		if err != nil {
			return 0, err
		}
		wall, err := clock(unix.CLOCK_REALTIME)
		if err != nil {
			return 0, err
		}
		after, err := clock(unix.CLOCK_BOOTTIME)
		if err != nil {
			return 0, err
		}
		if width < 0 || after-before < width {
			best, width = wall-(before+after)/2, after-before
		}
	}
	return best, nil
}

func clock(id int32) (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(id, &now); err != nil {
		return 0, fmt.Errorf("read clock %d: %w", id, err)
	}
	return now.Nano(), nil
}
