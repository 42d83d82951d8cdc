// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// figure is what was measured of one thing, once a round.
type figure struct {
	what    string
	unit    string // empty: a ratio
	values  []float64
	goal    goal
	instead string // of values, where there are none
}

// goal for a median. The zero value is none.
type goal struct {
	bound  float64
	atMost bool
}

func atLeast(bound float64) goal { return goal{bound: bound} }
func atMost(bound float64) goal  { return goal{bound: bound, atMost: true} }

// metBy says so of a median.
func (g goal) metBy(value float64) bool {
	if g.atMost {
		return value <= g.bound
	}
	return value >= g.bound
}

// tell in two cells, which are empty without a goal.
func (g goal) tell(f figure) (text, met string) {
	if g == (goal{}) {
		return "", ""
	}
	text = "at least "
	if g.atMost {
		text = "at most "
	}
	text += digits(g.bound)
	switch {
	case len(f.values) == 0:
		return text, "not measured"
	case g.metBy(median(f.values)):
		return text, "yes"
	}
	return text, "no"
}

func (f figure) row() []string {
	goal, met := f.goal.tell(f)
	if len(f.values) == 0 {
		return []string{f.what, f.instead, "", "", goal, met}
	}
	spread := ""
	if len(f.values) > 1 {
		spread = digits(slices.Min(f.values)) + " to " + digits(slices.Max(f.values))
	}
	return []string{f.what, digits(median(f.values)), f.unit, spread, goal, met}
}

// costTable in Markdown, with its columns aligned.
func costTable(figures []figure) string {
	rows := [][]string{{"", "median", "", "from, to", "goal", "met"}}
	for _, f := range figures {
		rows = append(rows, f.row())
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var line []string
	for _, width := range widths {
		line = append(line, strings.Repeat("-", width))
	}
	var table strings.Builder
	for _, row := range slices.Insert(rows, 1, line) {
		for i, cell := range row {
			table.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		table.WriteString("|\n")
	}
	return table.String()
}

// digits that say something: three or so.
func digits(value float64) string {
	switch size := math.Abs(value); {
	case value == 0:
		return "0"
	case size >= 100:
		return thousands(strconv.FormatFloat(value, 'f', 0, 64))
	case size >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(value, 'f', 2, 64)
	}
	return strconv.FormatFloat(value, 'f', 3, 64)
}

// thousands have commas between them.
func thousands(number string) string {
	number, negative := strings.CutPrefix(number, "-")
	for i := len(number) - 3; i > 0; i -= 3 {
		number = number[:i] + "," + number[i:]
	}
	if negative {
		return "-" + number
	}
	return number
}

// median is the mean of the two in the middle, where there are two.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// ratios of what was measured in the same rounds.
func ratios(with, without []float64) []float64 {
	if len(with) != len(without) {
		panic(fmt.Sprintf("%d rounds with, and %d without", len(with), len(without)))
	}
	var all []float64
	for i := range with {
		all = append(all, with[i]/without[i])
	}
	return all
}
