// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command draw shows a trace from Jaeger's API:
//
//	go run ./test/jaeger/cmd/draw [-server http://localhost:16686] [-svg] TRACE_ID
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/tapio-io/otelcol-tapio/test/jaeger"
)

func main() {
	server := flag.String("server", "http://localhost:16686", "where Jaeger is")
	svg := flag.Bool("svg", false, "draw an SVG instead of text")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := draw(*server, flag.Arg(0), *svg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func draw(server, id string, svg bool) error {
	trace, err := jaeger.Server(server).Trace(context.Background(), id)
	if err != nil {
		return err
	}
	if svg {
		return trace.WriteSVG(os.Stdout)
	}
	_, err = fmt.Print(trace.Text())
	return err
}
