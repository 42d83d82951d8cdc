// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func init() {
	workloads["openMany"] = openMany
}

// openMany opens a file args[1] times, some ten thousand times a second: what is faster for long fills the ring.
func openMany(args []string) error {
	for i := range number(args[1]) {
		if i%100 == 99 {
			time.Sleep(10 * time.Millisecond)
		}
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

func workloadCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(self(t), args...)
	command.Env = append(os.Environ(), workloadEnv+"="+name)
	return command
}

func runScoped(scope cgroup, command *exec.Cmd) error {
	scope.place(command)
	return command.Run()
}

// secretFile is a sensitive one, in a folder that all may look into.
func secretFile(t *testing.T) (path, override string) {
	t.Helper()
	path = filepath.Join(realPath(t, publicDir(t)), "secret")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path, fmt.Sprintf("receivers::tapioebpf::families::security::sensitive_paths: [%s]", path)
}

// TestManySensitiveOpens: ten thousand of one process, in a second, are folded to two records, and all are in the account.
func TestManySensitiveOpens(t *testing.T) {
	requireBPF(t)
	secret, override := secretFile(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, override)
	const opens = 10_000
	require.NoError(t, runScoped(scope, workloadCommand(t, "openMany", secret, strconv.Itoa(opens))))
	c.await("all opens", func(o *output) bool { return o.events()["security"] >= opens })
	c.quiet()
	records := named(c.output.logs, "tapio.security.file.sensitive_access")
	rows := c.stop()
	rows.requireNothingLost(t)
	assert.EqualValues(t, opens, rows["security"].Exported)
	require.Len(t, records, 2)
	assert.EqualValues(t, opens-1, records[1].number("tapio.security.count"))
	assert.Len(t, named(c.output.spans, "security.file.sensitive_access"), 2)
}

// TestSecurityInTheTrace: an action is below the program that did it, and its record says where.
func TestSecurityInTheTrace(t *testing.T) {
	requireBPF(t)
	secret, override := secretFile(t)
	scope := newCgroup(t)
	c := startCollector(t, scope, override)
	sh := realPath(t, "/bin/sh")
	// the shell goes on after cat, so that it is no exec in its place
	require.NoError(t, runScoped(scope, exec.Command(sh, "-c", "cat "+secret+"; true")))
	cat := exec.Command("/bin/cat", secret)
	cat.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	require.Error(t, runScoped(scope, cat))
	c.await("both opens", func(o *output) bool {
		return len(named(o.logs, "tapio.security.file.sensitive_access")) == 2 && len(named(o.spans, "process.exec")) == 3
	})
	c.stopWithoutLoss()

	programs := map[pcommon.SpanID]item{}
	for _, span := range named(c.output.spans, "process.exec") {
		programs[span.spanID] = span
	}
	outcomes := map[string]item{}
	for _, span := range named(c.output.spans, "security.file.sensitive_access") {
		outcomes[span.text("tapio.security.outcome")] = span
		program, ok := programs[span.parentID]
		require.True(t, ok, "its parent is a program")
		assert.Equal(t, "cat", program.text("process.executable.name"))
		assert.Equal(t, program.traceID, span.traceID)
		assert.Equal(t, program.pid(), span.pid())
		assert.Equal(t, secret, span.text("file.path"))
		assert.Equal(t, span.time, span.end)
		assert.Equal(t, ptrace.SpanKindInternal, span.kind)
	}
	require.Len(t, outcomes, 2)
	allowed, denied := outcomes["allowed"], outcomes["denied"]
	assert.Equal(t, "EACCES", denied.text("error.type"))
	assert.Empty(t, allowed.text("error.type"))
	assert.Contains(t, programs, programs[allowed.parentID].parentID, "the shell is above cat")
	for _, record := range named(c.output.logs, "tapio.security.file.sensitive_access") {
		span := outcomes[record.text("tapio.security.outcome")]
		assert.Equal(t, span.spanID, record.spanID)
		assert.Equal(t, span.traceID, record.traceID)
		assert.Equal(t, span.attributes, record.attributes)
		assert.Equal(t, plog.SeverityNumberWarn, record.severity)
	}
}
