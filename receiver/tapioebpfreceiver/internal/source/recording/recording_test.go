// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

var (
	description = Description{
		Source: "ebpf", HostName: "node-1", Families: []string{"process", "dns"}, Collector: "0.1.0",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	record    = bytes.Repeat([]byte{7}, recordMinimum+5)
	processes = []source.Process{{PID: 1, Executable: "/sbin/init"}, {PID: 7, ParentPID: 1, VPID: 3, StartTicks: 1 << 40, UID: 5, EUID: 6}}
	clock     = Clock{Boot: 123456789, BootTime: 1_700_000_000e9}
	end       = End{Counters: map[uint8]source.Counters{3: {Seen: 9, RingFull: 1, TableFull: 2, Unreadable: 3}}, Full: true}
)

// written is a recording of all kinds of frames.
func written(t testing.TB) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, description)
	require.NoError(t, err)
	w.WriteJSON(KindProcesses, processes)
	w.WriteRecord(record)
	w.WriteJSON(KindProcess, Answer{PID: 9, Process: &processes[1]})
	w.WriteClock(clock)
	w.WriteJSON(KindGone, Gone{PID: 9, StartTicks: 12})
	w.WriteJSON(KindEnd, end)
	w.Flush()
	require.NoError(t, w.Err())
	require.EqualValues(t, file.Len(), w.Size())
	return file.Bytes()
}

func readAll(file []byte) (kinds []Kind, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			return kinds, nil
		}
		if err != nil {
			return kinds, err
		}
		kinds = append(kinds, frame.Kind)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	r, err := NewReader(bytes.NewReader(written(t)))
	require.NoError(t, err)
	assert.Equal(t, description, r.Description())

	next := func(kind Kind) Frame {
		frame, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, kind, frame.Kind)
		return frame
	}
	var gotProcesses []source.Process
	require.NoError(t, next(KindProcesses).JSON(&gotProcesses))
	assert.Equal(t, processes, gotProcesses)
	assert.Equal(t, record, next(KindRecord).Payload)
	var answer Answer
	require.NoError(t, next(KindProcess).JSON(&answer))
	assert.Equal(t, Answer{PID: 9, Process: &processes[1]}, answer)
	assert.Equal(t, clock, next(KindClock).Clock())
	assert.Equal(t, time.Unix(0, clock.BootTime+int64(clock.Boot)), clock.Wall())
	var gone Gone
	require.NoError(t, next(KindGone).JSON(&gone))
	assert.Equal(t, Gone{PID: 9, StartTicks: 12}, gone)
	var gotEnd End
	require.NoError(t, next(KindEnd).JSON(&gotEnd))
	assert.Equal(t, end, gotEnd)
	_, err = r.Next()
	assert.ErrorIs(t, err, io.EOF)
}

// ofVersion is the recording as that version has it.
func ofVersion(t testing.TB, version uint32) []byte {
	t.Helper()
	whole := written(t)
	file := binary.LittleEndian.AppendUint32([]byte(magic), version)
	for rest := whole[preambleSize:]; len(rest) > 0; {
		size := int(binary.LittleEndian.Uint32(rest))
		file = append(file, rest[:frameHeader]...)
		if version >= headerSums {
			file = append(file, rest[frameHeader:frameHeader+headerSum]...)
		}
		file = append(file, rest[frameHeader+headerSum:][:size]...)
		rest = rest[frameHeader+headerSum+size:]
	}
	return file
}

// Recordings that are older are read as ever, and what is written says that it may have what is new.
func TestVersionsThatAreRead(t *testing.T) {
	kinds, err := readAll(written(t))
	require.NoError(t, err)
	assert.EqualValues(t, Version, binary.LittleEndian.Uint32(written(t)[len(magic):]))
	for version := uint32(OldestVersion); version <= Version; version++ {
		got, err := readAll(ofVersion(t, version))
		require.NoError(t, err, "version %d", version)
		assert.Equal(t, kinds, got)
	}
}

func TestForeignFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"empty", nil, ErrForeign, "not a recording of tapioebpf: it is shorter than a preamble"},
		{"short", []byte("TAPIO"), ErrForeign, "not a recording of tapioebpf: it is shorter than a preamble"},
		{"text", []byte("{\"resourceSpans\": []}"), ErrForeign, "not a recording of tapioebpf: it does not begin with TAPIOREC"},
		{"newer", ofVersion(t, Version+1), ErrVersion, "a recording of another version: 8, this collector reads versions 2 to 7"},
		{"too old", ofVersion(t, OldestVersion-1), ErrVersion, "a recording of another version: 1, this collector reads versions 2 to 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewReader(bytes.NewReader(tt.file))
			assert.ErrorIs(t, err, tt.want)
			assert.EqualError(t, err, tt.text)
		})
	}
}

// contents are all frames of a recording, as far as it can be read.
func contents(file *bufio.Reader) (frames []string, err error) {
	r, err := NewReader(file)
	if err != nil {
		return nil, err
	}
	frames = append(frames, fmt.Sprint(r.Description()))
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		frames = append(frames, fmt.Sprintf("%d %q", frame.Kind, frame.Payload))
	}
}

// Whatever bit is another one, or all of a byte: it is said, and not as if the file were cut off, or all is
// read that was written.
func TestEveryDamageIsNoticed(t *testing.T) {
	buffer := bufio.NewReaderSize(nil, readBuffer) // one for all
	read := func(file []byte) ([]string, error) {
		buffer.Reset(bytes.NewReader(file))
		return contents(buffer)
	}
	for version := uint32(OldestVersion); version <= Version; version++ {
		whole := ofVersion(t, version)
		want, err := read(whole)
		require.NoError(t, err)
		same := 0
		for at := range whole {
			for _, flip := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff} {
				file := bytes.Clone(whole)
				file[at] ^= flip
				got, err := read(file)
				if err == nil {
					same++
					require.Equal(t, want, got, "version %d, byte %d, with %#x", version, at, flip)
					continue
				}
				require.NotErrorIs(t, err, ErrCut, "version %d, byte %d, with %#x", version, at, flip)
				require.Less(t, len(got), len(want))
			}
		}
		assert.Equal(t, readAlike(version), same, "version %d may become another one that is read like it", version)
	}
}

// readAlike is how many versions a version becomes, if one bit is another one, of which frames are alike.
func readAlike(version uint32) (versions int) {
	for other := uint32(OldestVersion); other <= Version; other++ {
		if bits.OnesCount32(version^other) == 1 && (version < headerSums) == (other < headerSums) {
			versions++
		}
	}
	return versions
}

func TestEveryCutIsNoticed(t *testing.T) {
	for version := uint32(OldestVersion); version <= Version; version++ {
		whole := ofVersion(t, version)
		for size := preambleSize; size < len(whole); size++ {
			_, err := readAll(whole[:size])
			require.ErrorIs(t, err, ErrCut, "version %d, after %d bytes", version, size)
		}
		_, err := readAll(append(bytes.Clone(whole), whole[preambleSize:]...))
		assert.ErrorIs(t, err, ErrDamaged)
		assert.ErrorContains(t, err, fmt.Sprintf("byte %d: more follows behind its end", len(whole)))
	}
}

// Frames that are whole but not what this version writes.
func TestStrangeFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind Kind
		size int
		want string
	}{
		{"short record", KindRecord, recordMinimum - 1, "a record of 31 bytes"},
		{"long clock", KindClock, clockSize + 1, "a clock of 17 bytes"},
		{"short clock", KindClock, 0, "a clock of 0 bytes"},
		{"unknown kind", 99, 0, "a frame of the unknown kind 99"},
		{"huge", KindRecord, maxFrame + 1, "a frame of 16777217 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var file bytes.Buffer
			w, err := NewWriter(&file, description)
			require.NoError(t, err)
			at := w.Size()
			w.putFrame(tt.kind, make([]byte, tt.size))
			w.Flush()
			require.NoError(t, w.Err())
			_, err = readAll(file.Bytes())
			assert.ErrorIs(t, err, ErrDamaged)
			assert.EqualError(t, err, fmt.Sprintf("a damaged recording: byte %d: %s", at, tt.want))
		})
	}
}

func TestADescriptionMustComeFirst(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, description)
	require.NoError(t, err)
	w.Flush()
	var other bytes.Buffer
	other.Write(file.Bytes()[:preambleSize])
	second := &Writer{out: w.out}
	second.out.Reset(&other)
	second.WriteClock(clock)
	second.Flush()
	_, err = NewReader(&other)
	assert.EqualError(t, err, "a damaged recording: it does not begin with its description")
}

type fullDisk struct{ room int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return f.room, errors.New("no space left on device")
	}
	f.room -= len(p)
	return len(p), nil
}

// TestWhatNobodyCouldReadIsNotWritten: a frame that is too large ends the recording with what came before it.
func TestWhatNobodyCouldReadIsNotWritten(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, description)
	require.NoError(t, err)
	w.WriteClock(Clock{})
	w.writeFrame(KindRecord, make([]byte, maxFrame+1))
	w.WriteClock(Clock{})
	w.Flush()
	require.EqualError(t, w.Err(), "write a frame of kind 3: it has 16777217 bytes, the most that is read is 16777216")
	_, err = readAll(file.Bytes())
	require.ErrorIs(t, err, ErrCut, "not damaged")
}

func TestAnErrorStays(t *testing.T) {
	w, err := NewWriter(&fullDisk{room: writeBuffer}, description)
	require.NoError(t, err)
	for range 3 * writeBuffer / len(record) {
		w.WriteRecord(record)
	}
	w.Flush()
	require.EqualError(t, w.Err(), "no space left on device")
	size := w.Size()
	w.WriteRecord(record)
	w.Flush()
	assert.EqualError(t, w.Err(), "no space left on device")
	assert.Equal(t, size, w.Size())
}

// flooding is a source that hands out more at a turn than the writer's buffer holds.
type flooding struct{ source.Source }

func (flooding) Boot() uint64                                 { return 1e9 }
func (flooding) Close() error                                 { return nil }
func (flooding) Counters() (map[uint8]source.Counters, error) { return nil, nil }
func (flooding) Read(handle func([]byte)) error {
	for range 2 * writeBuffer / len(record) {
		handle(record)
	}
	return nil
}

func TestAFullDiskEndsTheRecordingAndNotTheSource(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	writer, err := NewWriter(&fullDisk{room: writeBuffer}, description)
	require.NoError(t, err)
	core, logs := observer.New(zapcore.ErrorLevel)
	r := &Recorder{Source: flooding{}, options: Options{MaxSize: 1 << 40}, logger: zap.New(core), file: file, writer: writer}
	handed := 0
	for range 2 {
		require.NoError(t, r.Read(func([]byte) { handed++ }))
	}
	require.NoError(t, r.Close())
	assert.Equal(t, 2*(2*writeBuffer/len(record)), handed)
	ended := logs.FilterMessage("The recording has ended early").All()
	require.Len(t, ended, 1)
	assert.Contains(t, ended[0].ContextMap()["error"], "no space left on device")
}

// A recording is read as the layout of its version says. Whoever changes a struct that was recorded
// before has to raise Version, and the sum here; the sum alone, if what was reserved, and 0, has got a name.
func TestLayoutIsThatOfTheVersion(t *testing.T) {
	layouts := fnv.New64a()
	for _, record := range []any{
		bpf.WireEventHeader{}, bpf.WireProcessExec{}, bpf.WireProcessFork{}, bpf.WireProcessExit{}, bpf.WireProcessOomKill{},
		bpf.WireConnectionConnect{}, bpf.WireConnectionStats{}, bpf.WireDnsMessage{}, bpf.WireHttpExchange{},
		bpf.WireCgroupChange{}, bpf.WireSecurityAction{},
		bpf.WireCniBegan{}, bpf.WireCniEnded{}, bpf.WireCniNamespace{}, bpf.WireEtcdCall{}, bpf.WireEtcdChange{},
	} {
		describeLayout(layouts, reflect.TypeOf(record), 0)
	}
	assert.Equal(t, uint64(0x58ac8a3cafd996c8), layouts.Sum64(), "version %d", Version)
}

func describeLayout(to io.Writer, of reflect.Type, offset uintptr) {
	if of.Kind() != reflect.Struct {
		fmt.Fprintln(to, of, offset)
		return
	}
	for i := range of.NumField() {
		field := of.Field(i)
		fmt.Fprintln(to, field.Name)
		describeLayout(to, field.Type, offset+field.Offset)
	}
}

func FuzzReader(f *testing.F) {
	whole := written(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := readAll(file)
		if err == nil {
			return
		}
		for _, known := range []error{ErrForeign, ErrVersion, ErrDamaged, ErrCut} {
			if errors.Is(err, known) {
				return
			}
		}
		t.Fatalf("an error of no kind: %v", err)
	})
}
