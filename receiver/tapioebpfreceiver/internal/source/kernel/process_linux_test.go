// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func TestExecSmoke(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range w.source.Capabilities() {
		t.Log(c)
	}
	cmd := w.command("/bin/sh", "-c", "exit 7", "a b", "")
	cmd.Dir = "/tmp"
	require.Error(t, cmd.Run())
	recs := w.await(event.TypeProcessExec, 1)
	e, err := event.DecodeProcessExec(recs[0])
	require.NoError(t, err)
	t.Logf("%+v exe=%s cwd=%s args=%q", *e.WireProcessExec, e.Exe.Append(nil, false), e.Cwd.Append(nil, false), e.Args)
	recs = w.await(event.TypeProcessExit, 1)
	x, err := event.DecodeProcessExit(recs[0])
	require.NoError(t, err)
	t.Logf("%+v", *x)
}
