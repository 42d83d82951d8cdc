// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command shop is what the pods of TestDeploy run: a server, and a customer that starts itself anew for each request.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hello\n")
		}))
	case len(os.Args) == 3 && os.Args[1] == "customer":
		for range time.Tick(time.Second) {
			_ = exec.Command(os.Args[0], "ask", os.Args[2]).Run() // the shop may not be there yet
		}
	case len(os.Args) == 3 && os.Args[1] == "ask":
		err = ask(os.Args[2])
	default:
		err = fmt.Errorf("usage: shop serve | customer URL | ask URL")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(url string) error {
	if file, ok := strings.CutPrefix(url, "file://"); ok {
		_, err := os.ReadFile(file)
		return err
	}
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
