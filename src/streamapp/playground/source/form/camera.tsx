/** Take a picture with the camera. */

import { useEffect, useRef, useState } from "react";

interface CameraProps {
  onPicture: (picture: File) => void;
  onClose: () => void;
}

/** What the camera sees, until a picture is taken. */
export function Camera({ onPicture, onClose }: CameraProps) {
  const video = useRef<HTMLVideoElement>(null);
  const [isOpen, setOpen] = useState(false);
  const [problem, setProblem] = useState("");
  const [facing, setFacing] = useState<"environment" | "user">("environment");
  const [hasSeveral, setSeveral] = useState(false);
  useEffect(() => {
    if (!navigator.mediaDevices) return setProblem("The camera works only over https, or on the machine that the server runs on.");
    const opening = navigator.mediaDevices.getUserMedia({ video: { facingMode: facing } });
    const show = async (film: MediaStream) => {
      if (video.current) video.current.srcObject = film;
      const devices = await navigator.mediaDevices.enumerateDevices();
      setSeveral(devices.filter(({ kind }) => kind === "videoinput").length > 1);
    };
    opening.then(show, (error) => setProblem(whyNot(error)));
    return () => void opening.then((film) => film.getTracks().forEach((track) => track.stop()), () => {});
  }, [facing]);
  const shoot = () => {
    const { videoWidth: width, videoHeight: height } = video.current!;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d")!.drawImage(video.current!, 0, 0);
    canvas.toBlob((picture) => picture && onPicture(new File([picture], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  };
  return (
    <>
      {problem ? <p className="wrong" role="alert">{problem}</p>
        : <video ref={video} className="look" autoPlay muted playsInline aria-label="camera" onLoadedData={() => setOpen(true)} />}
      <div className="ways">
        {!problem && <button type="button" className="main" disabled={!isOpen} onClick={shoot}>Take the picture</button>}
        {hasSeveral && <button type="button" className="quiet" onClick={() => setFacing(facing === "user" ? "environment" : "user")}>Turn</button>}
        <button type="button" className="quiet" onClick={onClose}>Close</button>
      </div>
    </>
  );
}

function whyNot({ name, message }: DOMException): string {
  if (name === "NotAllowedError") return "The browser does not let this page use the camera. Allow it next to the address, then try again.";
  if (name === "NotFoundError") return "There is no camera here.";
  return `The camera does not open: ${message}`;
}
