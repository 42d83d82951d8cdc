// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"regexp"
	"strings"
)

// Outcomes of a test, as go test spells them.
const (
	Passed  = "PASS"
	Failed  = "FAIL"
	Skipped = "SKIP"
)

// Test is the outcome of one test or subtest in the guest.
type Test struct {
	Name    string
	Outcome string // empty if it never ended
	Output  string // what it logged
}

// Result is what one test binary did.
type Result struct {
	Binary string
	Exit   string // the exit code; empty if the binary never ended
	Tests  []Test
}

// Name is the binary's, also of one that did not tell it because it never ended.
func (r Result) Name() string {
	if r.Binary == "" {
		return "unfinished"
	}
	return r.Binary
}

var (
	// A test's name has no blanks, and a kernel message may precede any of these on its line.
	startLine = regexp.MustCompile(`=== (?:RUN|CONT|NAME|PAUSE)\s+(\S+)`)
	endLine   = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)`)
	exitLine  = regexp.MustCompile(`@@RESULT (\S+) exit=(\d+)`)
	fatalLine = regexp.MustCompile(`@@FATAL (.*)`)
)

// Parse reads the tests' outcomes from a guest's console. Tests of a binary that did not end are
// those of a last Result without a name. The error is what the guest's init could not do.
func Parse(console string) ([]Result, error) {
	var results []Result
	var r reader
	for line := range strings.Lines(console) {
		line = strings.TrimSuffix(line, "\n")
		if fatal := fatalLine.FindStringSubmatch(line); fatal != nil {
			return results, fmt.Errorf("in the guest: %s", fatal[1])
		}
		if exit := exitLine.FindStringSubmatch(line); exit != nil {
			results = append(results, Result{Binary: exit[1], Exit: exit[2], Tests: r.tests})
			r = reader{}
			continue
		}
		r.line(line)
	}
	if len(r.tests) > 0 {
		results = append(results, Result{Tests: r.tests})
	}
	return results, nil
}

// reader follows the output of a test binary that runs with -test.v.
type reader struct {
	tests   []Test
	current int // index of the test that logs now, valid if there are tests
}

func (r *reader) line(line string) {
	if start := startLine.FindStringSubmatch(line); start != nil {
		r.turnTo(start[1])
		return
	}
	if end := endLine.FindStringSubmatch(line); end != nil {
		r.turnTo(end[2])
		r.tests[r.current].Outcome = end[1]
		return
	}
	if len(r.tests) == 0 {
		return
	}
	// What follows the end of a test is not its own, but for a panic that made it fail.
	if test := &r.tests[r.current]; test.Outcome == "" || test.Outcome == Failed {
		test.Output += line + "\n"
	}
}

func (r *reader) turnTo(name string) {
	for i, test := range r.tests {
		if test.Name == name {
			r.current = i
			return
		}
	}
	r.tests = append(r.tests, Test{Name: name})
	r.current = len(r.tests) - 1
}
