// Command line is a bad line between two network interfaces: what comes in at
// one goes out at the other, later, in another order, twice or never. Orders come
// as JSON objects on standard input, one a line; each is answered with what
// happened since the one before.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("line: ")
	a, b := flag.String("a", "", "one interface"), flag.String("b", "", "the other interface")
	flag.Parse()
	var ends [2]int
	for i, name := range []string{*a, *b} {
		fd, err := open(name)
		if err != nil {
			log.Fatalf("interface %q: %v", name, err)
		}
		ends[i] = fd
	}
	ways := map[string]*way{"ab": newWay(ends[1]), "ba": newWay(ends[0])}
	go ways["ab"].carry(ends[0])
	go ways["ba"].carry(ends[1])
	for _, w := range ways {
		go w.deliver()
	}
	fmt.Println("{}") // the line is up
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		o := order{Burst: 1}
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			log.Fatalf("order %s: %v", in.Bytes(), err)
		}
		if o.Way != "" && ways[o.Way] == nil {
			log.Fatalf("order %s: way is ab, ba or nothing", in.Bytes())
		}
		was := map[string]counts{}
		for name, w := range ways {
			if o.Way == "" || o.Way == name {
				was[name] = w.obey(o)
			}
		}
		out, err := json.Marshal(was)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", out)
	}
}

// open gives raw frames, each with the kernel's word on what it left to the
// hardware (checksums, segments), so that this crosses too.
func open(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return 0, err
	}
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			return 0, err
		}
	}
	promiscuous := unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
}
