// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Command broker speaks Kafka's protocol on loopback, with TLS and for one user, until it is told to end: it is
// kfake, of franz-go. What it was sent is in a folder, and there again when it is started anew.
//
//	broker -port 9092 -data FOLDER -certificate FILE -key FILE -username NAME -password WORD TOPIC...
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// partitions of each topic.
const partitions = 6

func main() {
	port := flag.Int("port", 9092, "on 127.0.0.1")
	folder := flag.String("data", "", "folder for what it is sent")
	certificate := flag.String("certificate", "", "file with its certificate")
	key := flag.String("key", "", "file with the certificate's key")
	username := flag.String("username", "", "of the one user")
	password := flag.String("password", "", "of the one user, by SCRAM-SHA-512")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	exitOn(err, "read the certificate")
	cluster, err := kfake.NewCluster(
		kfake.Ports(*port),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", *username, *password),
		kfake.SeedTopics(partitions, flag.Args()...),
		kfake.DataDir(*folder), kfake.SyncWrites(),
	)
	exitOn(err, "start the broker")
	defer cluster.Close()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	<-ended
}

func exitOn(err error, doing string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", doing, err)
		os.Exit(1)
	}
}
