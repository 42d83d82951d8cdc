// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestTimesAreAsTheLibraryWritesThem(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f := &timeFormatter{}
	want := map[string]string{}
	check := func(at time.Time) {
		text := f.format(pcommon.NewTimestampFromTime(at))
		require.Equal(t, at.UTC().Format(time.RFC3339Nano), text)
		want[text] = at.UTC().Format(time.RFC3339Nano)
	}
	for _, ns := range []int64{0, 1, 10, 100, 1e8, 999999999, 500, 120000000} {
		check(time.Unix(0, ns))
		check(time.Unix(1795408763, ns))
		check(time.Unix(1795408763, ns))
	}
	for range 100_000 { // more than a chunk has room for
		check(time.Unix(random.Int64N(4e9), random.Int64N(1e9)))
	}
	for text, again := range want {
		require.Equal(t, again, text, "what was written stays as it is")
	}
}
