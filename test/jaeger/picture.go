// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger // import "github.com/tapio-io/otelcol-tapio/test/jaeger"

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Measures of a picture, in pixels.
const (
	rowHeight   = 22
	indentWidth = 16
	charWidth   = 7.4 // of a 12 px monospaced font, about
	barsWidth   = 420
	margin      = 12
	headHeight  = 30
	minBar      = 2
)

// Colours of services, in the order in which they appear; then they begin anew. Errors are red.
var colours = []string{"#2f6fde", "#2a9d6f", "#c77d0a", "#8250df", "#0e8ba0", "#9a6700", "#5a6b7b"}

const errorColour = "#cf222e"

// picture is a trace that is being drawn.
type picture struct {
	io.Writer
	begin, length int64 // of the trace, in microseconds
	bars          int   // where the bars begin
	services      []string
	err           error
}

type row struct {
	*Node
	depth int
}

// WriteSVG draws the trace: a line for each span, indented below its parent, and a bar for its time.
func (t *Trace) WriteSVG(to io.Writer) error {
	var rows []row
	for _, root := range t.Trees() {
		root.Walk(func(node *Node, depth int) { rows = append(rows, row{node, depth}) })
	}
	if len(rows) == 0 {
		return fmt.Errorf("draw trace %s: it has no spans", t.ID)
	}
	p := newPicture(to, t.begin(), rows)
	p.open(len(rows), p.bars+barsWidth+margin)
	for i, r := range rows {
		p.drawRow(r, headHeight+i*rowHeight)
	}
	p.print("</svg>\n")
	return p.err
}

func newPicture(to io.Writer, begin int64, rows []row) *picture {
	p := &picture{Writer: to, begin: begin}
	end := begin
	for _, r := range rows {
		end = max(end, r.Start+r.Duration)
		p.bars = max(p.bars, 2*margin+r.depth*indentWidth+int(charWidth*float64(utf8.RuneCountInString(r.Title()))))
		if !slices.Contains(p.services, r.Service) {
			p.services = append(p.services, r.Service)
		}
	}
	p.length = max(end-p.begin, 1)
	return p
}

func (p *picture) print(format string, arguments ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p, format, arguments...)
	}
}

// open also draws the background, for readers whose pages are dark, and the scale.
func (p *picture) open(rows, width int) {
	height := headHeight + rows*rowHeight + margin
	p.print(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">`+"\n", width, height, width, height)
	p.print(`<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	const steps = 4
	for step := range int64(steps + 1) {
		x := p.bars + int(step)*barsWidth/steps
		p.print(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#d8dee4"/>`+"\n", x, headHeight-6, x, height-margin)
		p.print(`<text x="%d" y="%d" text-anchor="%s" fill="#57606a">%s</text>`+"\n", x, headHeight-12, anchor(step, steps), milliseconds(p.length*step/steps))
	}
}

func anchor(step, last int64) string {
	switch step {
	case 0:
		return "start"
	case last:
		return "end"
	}
	return "middle"
}

func (p *picture) drawRow(r row, y int) {
	colour := colours[slices.Index(p.services, r.Service)%len(colours)]
	text := "#1f2328"
	if r.Failed() {
		text = errorColour
	}
	x := margin + r.depth*indentWidth
	p.print(`<rect x="%d" y="%d" width="4" height="%d" fill="%s"/>`+"\n", x-8, y+4, rowHeight-8, colour)
	p.print(`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", x, y+rowHeight-7, text, escape(r.Title()))
	from := p.bars + int((r.Start-p.begin)*barsWidth/p.length)
	width := max(int(r.Duration*barsWidth/p.length), minBar)
	p.print(`<rect x="%d" y="%d" width="%d" height="%d" rx="2" fill="%s"><title>%s</title></rect>`+"\n",
		from, y+5, width, rowHeight-10, barColour(r.Node, colour), milliseconds(r.Duration))
}

func barColour(node *Node, of string) string {
	if node.Failed() {
		return errorColour
	}
	return of
}

func escape(text string) string {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // a Builder takes everything
	return escaped.String()
}
