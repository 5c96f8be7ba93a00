// A reader of a log that shares no code with Firmtrail: golang.org/x/mod/sumdb/tlog and note.
//
//	client URL KEY [OLD]
//
// It opens the checkpoint at URL by the verifier key, reads every entry, and has tlog prove each
// one from the served tiles. OLD is a file with an earlier checkpoint: the log must be a
// continuation of it. The new checkpoint is written to standard output.
//
// What C2SP tlog-tiles names otherwise than tlog, tile paths and bundles of entries, is told here.
package main

import (
	"encoding/binary"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func main() {
	log.SetFlags(0)
	url := strings.TrimSuffix(os.Args[1], "/")
	verifier, err := note.NewVerifier(strings.TrimSpace(os.Args[2]))
	check(err)
	text := get(url + "/checkpoint")
	tree := open(text, verifier)
	reader := tlog.TileHashReader(tree, tiles{url, map[string][]byte{}})
	for at := int64(0); at < tree.N; {
		for _, entry := range bundle(url, at, tree.N) {
			prove(tree, at, entry, reader)
			at++
		}
	}
	if len(os.Args) > 3 {
		grown(os.Args[3], tree, verifier, reader)
	}
	os.Stdout.Write(text)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func get(url string) []byte {
	response, err := http.Get(url)
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	if response.StatusCode != 200 {
		log.Fatalf("%s: %s", response.Request.URL.Path, response.Status)
	}
	return body
}

// open gives the tree that a checkpoint signs. tlog.TreeHash(0) is wrong in x/mod before 0.8, so an
// empty log has nothing for it to check.
func open(text []byte, verifier note.Verifier) tlog.Tree {
	signed, err := note.Open(text, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		log.Fatalf("no checkpoint of %s:\n%s", verifier.Name(), signed.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	if size < 1 {
		log.Fatal("an empty log")
	}
	return tlog.Tree{N: size, Hash: root}
}

func bundle(url string, at, size int64) [][]byte {
	tile := tlog.Tile{H: height, L: 0, N: at >> height, W: 1 << height}
	if size-at < 1<<height {
		tile.W = int(size - at)
	}
	path := strings.TrimPrefix(tile.Path(), "tile/8/0/")
	var entries [][]byte
	for text := get(url + "/tile/entries/" + path); len(text) > 0; {
		length := binary.BigEndian.Uint16(text)
		entries = append(entries, text[2:2+length])
		text = text[2+length:]
	}
	if len(entries) != tile.W {
		log.Fatalf("%s holds %d entries", path, len(entries))
	}
	return entries
}

func prove(tree tlog.Tree, at int64, entry []byte, reader tlog.HashReader) {
	proof, err := tlog.ProveRecord(tree.N, at, reader)
	check(err)
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, at, tlog.RecordHash(entry)))
}

func grown(file string, tree tlog.Tree, verifier note.Verifier, reader tlog.HashReader) {
	text, err := os.ReadFile(file)
	check(err)
	old := open(text, verifier)
	proof, err := tlog.ProveTree(tree.N, old.N, reader)
	check(err)
	check(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
	log.Printf("%d entries are a continuation of %d", tree.N, old.N)
}

// tiles reads what tlog asks for, each once; tlog holds it against the tree before it uses it.
type tiles struct {
	url   string
	known map[string][]byte
}

func (tiles) Height() int { return height }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := strings.TrimPrefix(tile.Path(), "tile/8/")
		if _, ok := t.known[path]; !ok {
			t.known[path] = get(t.url + "/tile/" + path)
		}
		found = append(found, t.known[path])
	}
	return found, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
