// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
)

// cron SCRIPT runs the script for each line that it is given, with the line's words as arguments and in a
// session of its own, as cron does. It prints what the shell says at its end.
func cron(args []string) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		job := exec.Command("/bin/sh", append([]string{args[0]}, strings.Fields(lines.Text())...)...)
		job.Args[0] = "sh"
		job.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := job.Run(); job.ProcessState == nil {
			return err
		}
		fmt.Println(job.ProcessState)
	}
	return nil
}

// soldOut is an order that fails.
const soldOut = "13"

// takeOrders ADDRESS is the shop's other back end.
func takeOrders(args []string) error {
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if path.Base(r.URL.Path) == soldOut {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ordered")
	}))
}
