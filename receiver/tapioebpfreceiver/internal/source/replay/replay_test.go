// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"
)

const (
	bootTime = int64(1_700_000_000e9)
	boot     = uint64(1000e9)
	turn     = 50 * time.Millisecond
)

// turns is a source that has a list of records at each turn, and is asked by whoever reads.
type turns struct {
	records [][][]byte
	now     uint64
}

func (*turns) Name() string                      { return "ebpf" }
func (*turns) HostName() (string, error)         { return "node-7", nil }
func (*turns) Patient() bool                     { return false }
func (*turns) Behind() bool                      { return false }
func (s *turns) Boot() uint64                    { return s.now }
func (s *turns) Wall() time.Time                 { return time.Unix(0, bootTime+int64(s.now)) }
func (*turns) BootTime() (int64, error)          { return bootTime, nil }
func (*turns) Capabilities() []source.Capability { return nil }
func (*turns) Stop(func(record []byte)) error    { return nil }
func (*turns) Close() error                      { return nil }
func (*turns) Gone(pid uint32, _ uint64) bool    { return pid%2 == 1 }
func (*turns) Processes() []source.Process {
	return []source.Process{{PID: 1, Executable: "/sbin/init"}}
}
func (*turns) Cgroups() []source.Cgroup { return []source.Cgroup{{ID: 5, Path: "/a.slice"}} }
func (*turns) Cgroup(id uint64, _ uint32) (string, bool) {
	if id%2 == 1 {
		return "", false
	}
	return "/asked", true
}

func (*turns) Counters() (map[uint8]source.Counters, error) {
	return map[uint8]source.Counters{uint8(event.FamilyProcess): {Seen: 9, RingFull: 2}}, nil
}

func (*turns) Process(pid uint32) (source.Process, bool) {
	return source.Process{PID: pid, StartTicks: uint64(pid), Executable: "/bin/asked"}, pid%2 == 0
}

func (s *turns) Read(handle func([]byte)) error {
	s.now += uint64(turn)
	if len(s.records) == 0 {
		return nil
	}
	for _, record := range s.records[0] {
		handle(record)
	}
	s.records = s.records[1:]
	return nil
}

func oomKill(pid uint32) []byte {
	return eventtest.Record(bpf.WireProcessOomKill{Header: bpf.WireEventHeader{Pid: pid, Type: uint16(bpf.WireEventTypePROCESS_OOM_KILL)}})
}

func pidOf(record []byte) uint32 {
	header, err := event.DecodeHeader(record)
	if err != nil {
		return 0
	}
	return header.Pid
}

// record plays the source once, as the receiver's reader does, and asks for the process of each record.
func record(t *testing.T, rounds ...[][]byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recording")
	r, err := recording.Record(&turns{records: rounds, now: boot}, recording.Options{File: file, MaxSize: 1 << 20, Families: []string{"process"}, Collector: "0.1.0"}, zap.NewNop())
	require.NoError(t, err)
	_, err = r.BootTime()
	require.NoError(t, err)
	r.Cgroups()
	r.Processes()
	for range rounds {
		require.NoError(t, r.Read(func(record []byte) {
			r.Process(pidOf(record))
			r.Cgroup(uint64(pidOf(record)), pidOf(record))
		}))
		r.Gone(31, 5)
		r.Gone(32, 5)
	}
	require.NoError(t, r.Close())
	return file
}

func open(t *testing.T, file string, speed float64) source.Source {
	t.Helper()
	return openFamilies(t, file, speed, "process")
}

func openFamilies(t *testing.T, file string, speed float64, families ...string) source.Source {
	t.Helper()
	s, err := replay.New(replay.Options{File: file, Speed: speed, Families: families, FlushInterval: time.Millisecond}, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func readTurn(t *testing.T, s source.Source) (pids []uint32) {
	t.Helper()
	require.NoError(t, s.Read(func(record []byte) { pids = append(pids, pidOf(record)) }))
	return pids
}

func TestTurnsAreAsTheyWere(t *testing.T) {
	s := open(t, record(t, [][]byte{oomKill(1), oomKill(2)}, nil, [][]byte{oomKill(3)}), 0)
	at := func(turns int) time.Time { return time.Unix(0, bootTime+int64(boot)).Add(time.Duration(turns) * turn) }

	assert.Equal(t, "replay", s.Name())
	assert.Equal(t, "ebpf", s.(*replay.Source).Recorded())
	host, err := s.HostName()
	require.NoError(t, err)
	assert.Equal(t, "node-7", host)
	assert.True(t, s.Patient())
	assert.Equal(t, []source.Process{{PID: 1, Executable: "/sbin/init"}}, s.Processes())
	assert.Equal(t, []source.Cgroup{{ID: 5, Path: "/a.slice"}}, s.Cgroups())
	gotBootTime, err := s.BootTime()
	require.NoError(t, err)
	assert.Equal(t, bootTime, gotBootTime)
	assert.Equal(t, at(1), s.Wall(), "nothing is expired before the first records are there")

	assert.Equal(t, []uint32{1, 2}, readTurn(t, s))
	assert.Equal(t, at(1), s.Wall())
	assert.Empty(t, readTurn(t, s))
	assert.Equal(t, at(2), s.Wall())
	assert.Equal(t, []uint32{3}, readTurn(t, s))
	assert.Empty(t, readTurn(t, s))
	assert.WithinRange(t, s.Wall(), at(3), at(3).Add(time.Minute), "time goes on")

	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyProcess): {Seen: 3}}, counters)
	assert.Empty(t, s.Capabilities())
}

func TestAnswersAreAsTheyWere(t *testing.T) {
	s := open(t, record(t, [][]byte{oomKill(1), oomKill(2)}, nil), 0)
	var answers []source.Process
	paths := map[uint32]string{}
	require.NoError(t, s.Read(func(record []byte) {
		if path, found := s.Cgroup(uint64(pidOf(record)), pidOf(record)); found {
			paths[pidOf(record)] = path
		}
		if process, found := s.Process(pidOf(record)); found {
			answers = append(answers, process)
		}
	}))
	assert.Equal(t, []source.Process{{PID: 2, StartTicks: 2, Executable: "/bin/asked"}}, answers)
	assert.Equal(t, map[uint32]string{2: "/asked"}, paths)
	_, found := s.Process(2)
	assert.False(t, found, "it was asked once")
	_, found = s.Cgroup(2, 2)
	assert.False(t, found, "it was asked once")
	assert.True(t, s.Gone(31, 5), "asked at the end of this turn")
	assert.False(t, s.Gone(32, 5))
	assert.False(t, s.Gone(31, 6))
}

// TestProcessesAreKnownWithoutTheirFamily: records that nobody asked for tell whose the others are.
func TestProcessesAreKnownWithoutTheirFamily(t *testing.T) {
	const start = uint64(5_000_000_000)
	fork := eventtest.Record(bpf.WireProcessFork{
		Header:  bpf.WireEventHeader{Pid: 33, StartTime: start, Time: start, Type: uint16(bpf.WireEventTypePROCESS_FORK)},
		Process: bpf.WireProcessIdentity{ParentPid: 1},
	})
	exit := eventtest.Record(bpf.WireProcessExit{
		Header: bpf.WireEventHeader{Pid: 33, StartTime: start, Time: start + 1, Type: uint16(bpf.WireEventTypePROCESS_EXIT)},
	})
	s, err := replay.New(replay.Options{File: record(t, [][]byte{fork}, [][]byte{exit}), Families: []string{"network"}, FlushInterval: time.Millisecond}, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	assert.Empty(t, readTurn(t, s))
	_, found := s.Process(33)
	assert.False(t, found, "the answer is as it was where it was asked")
	process, found := s.Process(33)
	assert.True(t, found)
	assert.Equal(t, source.Process{PID: 33, ParentPID: 1, StartTicks: 500, Executable: "/sbin/init"}, process)
	assert.False(t, s.Gone(33, 500))
	assert.Empty(t, readTurn(t, s))
	assert.True(t, s.Gone(33, 500))
	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Empty(t, counters, "they are not handed out")
}

// stepped is a source whose clock is set during a turn, which is measured after it.
type stepped struct {
	*turns
	steps  []time.Duration // at each turn
	offset time.Duration
}

func (s *stepped) BootTime() (int64, error) { return bootTime + int64(s.offset), nil }
func (s *stepped) Wall() time.Time          { return s.turns.Wall().Add(s.offset) }
func (s *stepped) Read(handle func([]byte)) error {
	s.offset += s.steps[0]
	s.steps = s.steps[1:]
	return s.turns.Read(handle)
}

// TestClockThatWasSet: records have the offset that they had, and playing does not wait for what did not pass.
func TestClockThatWasSet(t *testing.T) {
	for _, step := range []time.Duration{100 * time.Hour, -100 * time.Hour, -60 * 365 * 24 * time.Hour} {
		from := &stepped{turns: &turns{now: boot}, steps: []time.Duration{0, step, 0, -step, 0}}
		file := filepath.Join(t.TempDir(), "recording")
		r, err := recording.Record(from, recording.Options{File: file, MaxSize: 1 << 20, Families: []string{"process"}}, zap.NewNop())
		require.NoError(t, err)
		play := func(s source.Source) (offsets []int64, boots []uint64, walls []time.Time) {
			for range 5 {
				offset, err := s.BootTime()
				require.NoError(t, err)
				offsets = append(offsets, offset)
				require.NoError(t, s.Read(func([]byte) {}))
				boots, walls = append(boots, s.Boot()), append(walls, s.Wall())
			}
			return offsets, boots, walls
		}
		offsets, boots, _ := play(r)
		require.NoError(t, r.Close())
		require.Equal(t, bootTime+int64(step), offsets[2])

		gotOffsets, gotBoots, gotWalls := play(open(t, file, 0))
		assert.Equal(t, offsets, gotOffsets)
		assert.Equal(t, boots[:4], gotBoots[:4], "after the last, time goes on")
		for i, wall := range gotWalls[:4] {
			assert.Equal(t, time.Unix(0, offsets[i]+int64(boots[i])), wall)
		}

		logged, logs := observer.New(zapcore.InfoLevel)
		paced, err := replay.New(replay.Options{File: file, Speed: 1000, FlushInterval: time.Millisecond}, zap.New(logged))
		require.NoError(t, err)
		for n := 0; logs.FilterMessage("The recording has been played").Len() == 0; n++ {
			require.NoError(t, paced.Read(func([]byte) {}))
			require.Less(t, n, 5000, "a step is 15 s at the most, 15 ms at this speed, and a reading takes at least 1 ms of it")
		}
		require.NoError(t, paced.Close())
	}
}

// What is asked for at the end of a turn is told before Read returns, and what a record asks for with the record.
func TestNamesAreToldWhenTheyWere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	r, err := recording.Record(&turns{records: [][][]byte{{oomKill(1), oomKill(2)}, {oomKill(3)}}, now: boot},
		recording.Options{File: file, MaxSize: 1 << 20, Node: "node-7.example"}, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.Read(func(record []byte) { r.WriteNames(pidOf(record)) }))
	r.WriteNames("the first turn has ended")
	require.NoError(t, r.Read(func([]byte) {}))
	r.WriteNames("the last turn has ended")
	require.NoError(t, r.Close())

	s := open(t, file, 0).(*replay.Source)
	assert.True(t, s.HasNames())
	assert.Equal(t, "node-7.example", s.NodeName())
	var told []string
	s.OnNames(func(frame recording.Frame) error {
		told = append(told, string(frame.Payload))
		return nil
	})
	read := func() {
		require.NoError(t, s.Read(func(record []byte) { told = append(told, "record "+strconv.Itoa(int(pidOf(record)))) }))
	}
	read()
	assert.Equal(t, []string{"1", "record 1", "2", "record 2", `"the first turn has ended"`}, told)
	told = nil
	read()
	assert.Equal(t, []string{"record 3", `"the last turn has ended"`}, told)
	read()
	assert.Len(t, told, 2)
}

func TestARecordingWithoutNames(t *testing.T) {
	s := open(t, record(t, [][]byte{oomKill(1)}), 0).(*replay.Source)
	assert.False(t, s.HasNames())
	assert.Empty(t, s.NodeName())
}

func TestNamesThatCannotBeReadEndTheReplay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	r, err := recording.Record(&turns{records: [][][]byte{{oomKill(1)}}, now: boot}, recording.Options{File: file, MaxSize: 1 << 20}, zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.Read(func([]byte) { r.WriteNames("?") }))
	require.NoError(t, r.Close())
	s := open(t, file, 0).(*replay.Source)
	s.OnNames(func(recording.Frame) error { return assert.AnError })
	assert.ErrorIs(t, s.Read(func([]byte) {}), assert.AnError)
}

func TestFamiliesThatAreOffAreNotPlayed(t *testing.T) {
	file := record(t, [][]byte{oomKill(1), eventtest.Record(bpf.WireConnectionConnect{Header: bpf.WireEventHeader{Pid: 2, Type: uint16(bpf.WireEventTypeCONNECTION_CONNECT)}})})
	s := open(t, file, 0)
	assert.Equal(t, []uint32{1}, readTurn(t, s))
	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyProcess): {Seen: 1}}, counters)
}

// What was beyond a limit is played with the family whose limit it was.
func TestWhatWasThrottledIsPlayedWithItsFamily(t *testing.T) {
	throttling := func(family event.Family) []byte {
		return eventtest.Record(bpf.WireThrottling{Header: bpf.WireEventHeader{Type: uint16(event.TypeThrottling)}, Family: uint16(family)})
	}
	s := open(t, record(t, [][]byte{throttling(event.FamilyHTTP), throttling(event.FamilyProcess), throttling(event.FamilyCgroup)}), 0)
	assert.Len(t, readTurn(t, s), 2, "one that makes no sense is the ledger's to count")
	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyThrottle): {Seen: 2}}, counters)
}

// Exchanges that were summed up are seen as they were when they were recorded.
func TestWhatWasSummedUpIsSeen(t *testing.T) {
	sum := bpf.WireHttpSum{Header: bpf.WireEventHeader{Type: uint16(event.TypeHTTPSum)}, Key: bpf.WireHttpSumKey{Role: event.RoleServer}}
	sum.Sums.Durations[3] = 40
	connections := bpf.WireConnectionSum{
		Header: bpf.WireEventHeader{Type: uint16(event.TypeConnectionSum)}, Key: bpf.WireConnectionSumKey{Type: uint16(event.TypeConnectionClose)},
		Sums: bpf.WireConnectionSums{Events: 7},
	}
	processes := bpf.WireProcessSum{
		Header: bpf.WireEventHeader{Type: uint16(event.TypeProcessSum)}, Key: bpf.WireProcessSumKey{Type: uint16(event.TypeProcessExit)},
		Sums: bpf.WireProcessSums{Events: 9},
	}
	handshakes := bpf.WireTlsSum{Header: bpf.WireEventHeader{Type: uint16(event.TypeTLSSum)}, Key: bpf.WireTlsSumKey{Role: event.RoleClient}}
	handshakes.Sums.Durations[5] = 3
	file := record(t, [][]byte{
		eventtest.Record(sum), eventtest.Record(connections), eventtest.Record(sum), eventtest.Record(processes), eventtest.Record(handshakes),
	})
	for family, want := range map[event.Family][2]uint64{event.FamilyHTTP: {2, 80}, event.FamilyNetwork: {2, 7 + 3}, event.FamilyProcess: {1, 9}} {
		s := openFamilies(t, file, 0, family.String())
		assert.Len(t, readTurn(t, s), int(want[0]))
		counters, err := s.Counters()
		require.NoError(t, err)
		assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyThrottle): {Seen: want[0]}, uint8(family): {Seen: want[1]}}, counters)
	}

	assert.Empty(t, readTurn(t, openFamilies(t, file, 0, "dns")), "nobody asked for these families")
}

func TestCgroupsArePlayedWithEveryFamily(t *testing.T) {
	s := open(t, record(t, [][]byte{eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{}, "/a", true)}), 0)
	assert.Len(t, readTurn(t, s), 1)
	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Equal(t, map[uint8]source.Counters{uint8(event.FamilyCgroup): {Seen: 1}}, counters)
}

// A record of a type that this collector does not know is the ledger's to count.
func TestRecordsOfNoFamilyAreHandedOut(t *testing.T) {
	s := open(t, record(t, [][]byte{eventtest.Record(bpf.WireProcessOomKill{Header: bpf.WireEventHeader{Pid: 5, Type: 0x7f01}})}), 0)
	assert.Equal(t, []uint32{5}, readTurn(t, s))
	counters, err := s.Counters()
	require.NoError(t, err)
	assert.Empty(t, counters)
}

func TestSpeed(t *testing.T) {
	const turns = 9 // 400 ms from the end of the first to the end of the last
	rounds := make([][][]byte, turns)
	for i := range rounds {
		rounds[i] = [][]byte{oomKill(uint32(i + 1))}
	}
	file := record(t, rounds...)
	for _, tt := range []struct {
		speed     float64
		least     time.Duration
		unlimited bool
	}{
		{speed: 4, least: 100 * time.Millisecond},
		{speed: 40, least: 10 * time.Millisecond},
		{speed: 0},
	} {
		s := open(t, file, tt.speed)
		began := time.Now()
		var pids []uint32
		for len(pids) < turns {
			pids = append(pids, readTurn(t, s)...)
		}
		assert.GreaterOrEqual(t, time.Since(began), tt.least, "speed %v", tt.speed)
		assert.Equal(t, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9}, pids, "speed %v", tt.speed)
	}
}

func TestReadWaitsNoLongerThanTheFlushInterval(t *testing.T) {
	s := open(t, record(t, [][]byte{oomKill(1)}, [][]byte{oomKill(2)}), 0.001) // the second turn is due after 50 s
	assert.Equal(t, []uint32{1}, readTurn(t, s))
	began := time.Now()
	assert.Empty(t, readTurn(t, s))
	assert.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, s.Stop(func([]byte) {}))
	assert.Empty(t, readTurn(t, s))
}

func TestWhatWasCutOffIsPlayedAsFarAsItGoes(t *testing.T) {
	file := record(t, [][]byte{oomKill(1)}, [][]byte{oomKill(2)})
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, whole[:len(whole)-150], 0o600)) // into the second turn
	core, logs := observer.New(zapcore.WarnLevel)
	s, err := replay.New(replay.Options{File: file, Families: []string{"process"}, FlushInterval: time.Millisecond}, zap.New(core))
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, []uint32{1}, readTurn(t, s))
	assert.Empty(t, readTurn(t, s))
	assert.Equal(t, 1, logs.FilterMessage("The recording was cut off; what is there is played").Len())
}

func TestFilesThatCannotBePlayed(t *testing.T) {
	file := record(t, [][]byte{oomKill(1)})
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)/2] ^= 1
	older := append([]byte(nil), whole...)
	binary.LittleEndian.PutUint32(older[8:], 0)
	for _, tt := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"damaged", damaged, recording.ErrDamaged, "its checksum does not fit"},
		{"foreign", []byte("#!/bin/sh\nexit 0\n"), recording.ErrForeign, "not a recording of tapioebpf"},
		{"of another version", older, recording.ErrVersion, "a recording of another version: 0, this collector reads versions 2 to 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(path, tt.file, 0o600))
			_, err := replay.New(replay.Options{File: path}, zap.NewNop())
			require.ErrorIs(t, err, tt.want)
			assert.ErrorContains(t, err, "recording "+path+": ")
			assert.ErrorContains(t, err, tt.text)
		})
	}
	_, err = replay.New(replay.Options{File: filepath.Join(t.TempDir(), "none")}, zap.NewNop())
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = replay.New(replay.Options{File: record(t)}, zap.NewNop())
	assert.ErrorContains(t, err, "there is nothing in it: it was ended before its first turn")
}

func TestAFileIsNotOverwritten(t *testing.T) {
	file := record(t, [][]byte{oomKill(1)})
	_, err := recording.Record(&turns{}, recording.Options{File: file, MaxSize: 1 << 20}, zap.NewNop())
	assert.ErrorIs(t, err, os.ErrExist)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it has what was not redacted")
}

func TestARecordingEndsWhenItIsFull(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	var rounds [][][]byte
	for range 1000 {
		rounds = append(rounds, [][]byte{oomKill(1)})
	}
	core, logs := observer.New(zapcore.InfoLevel)
	r, err := recording.Record(&turns{records: rounds}, recording.Options{File: file, MaxSize: 4096}, zap.New(core))
	require.NoError(t, err)
	handed := 0
	for range rounds {
		require.NoError(t, r.Read(func([]byte) { handed++ }))
	}
	require.NoError(t, r.Close())
	assert.Equal(t, len(rounds), handed, "the receiver goes on")
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(5000))
	ended := logs.FilterMessage("The recording has ended").All()
	require.Len(t, ended, 1)
	assert.Equal(t, true, ended[0].ContextMap()["full"])
	s := open(t, file, 0)
	assert.Equal(t, []uint32{1}, readTurn(t, s))
}
