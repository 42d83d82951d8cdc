// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// sharedSource is a source that worlds use one after the other, each in a new cgroup below the one that
// is in scope.
type sharedSource struct {
	options string
	source  *Source
	cgroup  string // its directory
	// strangers are the ids of cgroups of worlds before. What is still to come of them, as their removal or
	// the end of a connection, is not for the next one. All else is, so that a test finds what should not
	// be in scope.
	strangers map[uint64]bool
	seen      map[uint64]bool // the cgroups of the world that uses it now
	log       testLog
}

// maxShared sources are there at a time: each has its programs at the hooks of the whole machine.
const maxShared = 5

// pool has the sources that are shared, the one that was used last at its end. Tests do not run in
// parallel here.
var pool []*sharedSource

// takeSource returns one that nobody uses; a new one if there is none.
func takeSource(t testing.TB, options Options) *sharedSource {
	t.Helper()
	wanted := fmt.Sprintf("%+v, idle for %s", options, idleWatch)
	for i, s := range pool {
		if s.options == wanted && s.source != nil && !s.log.isTaken() {
			s.log.take(t)
			pool = append(slices.Delete(pool, i, i+1), s)
			return s
		}
	}
	makeRoom(t)
	s := &sharedSource{options: wanted, strangers: map[uint64]bool{}, seen: map[uint64]bool{}}
	pool = append(pool, s)
	s.open(t, options)
	return s
}

// makeRoom closes the one that nobody has used for longest.
func makeRoom(t testing.TB) {
	t.Helper()
	if len(pool) < maxShared {
		return
	}
	if i := slices.IndexFunc(pool, func(s *sharedSource) bool { return !s.log.isTaken() }); i >= 0 {
		unused := pool[i]
		pool = slices.Delete(pool, i, i+1)
		require.NoError(t, unused.close())
	}
}

func (s *sharedSource) open(t testing.TB, options Options) {
	t.Helper()
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	s.cgroup, err = os.MkdirTemp(mount, "tapio-test-shared-")
	require.NoError(t, err)
	options.Cgroups = []string{scopeOf(t, s.cgroup)}
	s.log.take(t)
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	opened, err := New(options, zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&s.log), zap.DebugLevel)))
	require.NoError(t, err)
	s.source = opened.(*Source)
}

// begin is when the world's cgroup has been made: what is in the rings is of others, or says just that.
func (s *sharedSource) begin(t testing.TB, cgroup string) {
	t.Helper()
	id, ok := cgroupID(cgroup)
	require.True(t, ok)
	require.NoError(t, s.readAll(func(record []byte) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		s.strangers[header.CgroupId] = true
	}))
	delete(s.strangers, id)
	clear(s.seen)
}

// isOfWorld says whether a record is for the world that uses the source.
func (s *sharedSource) isOfWorld(t testing.TB, record []byte) bool {
	header, err := event.DecodeHeader(record)
	if err != nil {
		t.Errorf("%v", err)
		return false
	}
	if header.CgroupId == 0 {
		return true // of an OOM kill before Linux 6.8: it does not say whose
	}
	s.seen[header.CgroupId] = true
	return !s.strangers[header.CgroupId]
}

// readAll reads until nothing comes any more.
func (s *sharedSource) readAll(handle func(record []byte)) error {
	for came := true; came; {
		came = false
		err := s.source.Read(func(record []byte) {
			came = true
			handle(record)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// release is when the world's cgroup is gone. What a test that failed has left in the maps is not for the
// next one to suffer from.
func (s *sharedSource) release(t testing.TB) {
	t.Helper()
	maps.Copy(s.strangers, s.seen)
	s.log.take(nil)
	if t.Failed() {
		pool = slices.DeleteFunc(pool, func(other *sharedSource) bool { return other == s })
		require.NoError(t, s.close())
	}
}

// close also removes the cgroup.
func (s *sharedSource) close() error {
	var errs []error
	if s.source != nil {
		errs = append(errs, s.source.Close())
	}
	if err := syscall.Rmdir(s.cgroup); err != nil {
		errs = append(errs, &os.PathError{Op: "rmdir", Path: s.cgroup, Err: err})
	}
	return errors.Join(errs...)
}

func closePool() error {
	var errs []error
	for _, s := range pool {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// testLog is the log of a source that outlives the test that it was opened for.
type testLog struct {
	mu sync.Mutex
	t  testing.TB // the one that uses it now; nil: none
}

func (l *testLog) take(t testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = t
}

func (l *testLog) isTaken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t != nil
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Log(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

func TestTheNextWorldSeesNothingOfTheOneBefore(t *testing.T) {
	var before *world
	t.Run("before", func(t *testing.T) {
		before = newWorld(t, nil)
		require.NoError(t, commandIn(t, newCgroup(t, before.cgroup), "/bin/true").Run())
		before.await(event.TypeProcessExit, 1)
	})
	w := newWorld(t, nil)
	require.Same(t, before.source, w.source)
	assert.Empty(t, w.counters())
	require.NoError(t, w.command("/bin/true").Run())
	w.finish()
	for _, kind := range []event.Type{event.TypeProcessFork, event.TypeProcessExec, event.TypeProcessExit} {
		assert.Len(t, w.ofType(kind), 1)
	}
	assert.Len(t, w.records, 3)
	assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyProcess): {Seen: 3}}, w.counters())
}
