// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShop: what Jaeger shows of a shop of real programs.
func TestShop(t *testing.T) {
	requireJaeger(t)
	w := newWorld(t)
	jaeger := startJaeger(t)
	startCollector(t, jaeger, w.scope)
	shop := openShop(t, w)

	assert.Equal(t, "exit status 0", shop.runJob(t, "/orders/7"))
	assert.Equal(t, "exit status 22", shop.runJob(t, "/orders/"+soldOut))
	assert.Equal(t, "exit status 22", shop.runJob(t, "/gifts/7"))
	assert.Equal(t, "exit status 22", shop.runJob(t, "/reviews/7"))
	require.Eventually(t, func() bool {
		traces, err := jaeger.Traces(t.Context(), Search{Service: programName(t, "/bin/sh")})
		return err == nil && len(traces) >= 4
	}, patience, pollInterval)
	services, err := jaeger.Services(t.Context())
	require.NoError(t, err)
	t.Log(services)
	for _, service := range services {
		traces, err := jaeger.Traces(t.Context(), Search{Service: service})
		require.NoError(t, err)
		for _, trace := range traces {
			t.Logf("%s\n%s", trace.ID, trace.Text())
		}
	}
}
