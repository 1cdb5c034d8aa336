"use strict";
/* A small WebGL viewer of grasps. It reads what simeval/report/scenes.py writes; nothing is fetched. */
const Viewer = (() => {
  const LENGTH = 1e-4, ANGLE = 1e-4, UNIT = 32000, ROW = 31;
  const COLORS = {
    hand: [0.62, 0.65, 0.70], touching: [0.90, 0.55, 0.10], object: [0.25, 0.60, 0.68], floor: [0.70, 0.70, 0.68],
    contact: [0.80, 0.15, 0.40],
  };

  // Matrices: 3x3 row-major arrays of 9, vectors of 3
  const mul = (a, b) => [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) =>
    a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]));
  const apply = (m, v) => [0, 1, 2].map((i) => m[3 * i] * v[0] + m[3 * i + 1] * v[1] + m[3 * i + 2] * v[2]);
  const add = (a, b) => a.map((x, i) => x + b[i]);
  const sub = (a, b) => a.map((x, i) => x - b[i]);
  const scale = (a, s) => a.map((x) => x * s);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => scale(a, 1 / (Math.hypot(...a) || 1));
  const EYE = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const turnAbout = ([x, y, z], angle) => {
    const c = Math.cos(angle), s = Math.sin(angle), t = 1 - c;
    return [t * x * x + c, t * x * y - s * z, t * x * z + s * y, t * x * y + s * z, t * y * y + c, t * y * z - s * x,
      t * x * z - s * y, t * y * z + s * x, t * z * z + c];
  };
  const fromQuaternion = ([x, y, z, w]) => [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)];
  const alongZ = (z) => {  // a rotation whose third column is z
    const side = Math.abs(z[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0];
    const x = unit(cross(side, z)), y = cross(z, x);
    return [x[0], y[0], z[0], x[1], y[1], z[1], x[2], y[2], z[2]];
  };

  function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer; }

  // Shapes: interleaved position and normal of triangles' corners
  function triangles(vertices, faces) {
    const out = [];
    for (const [a, b, c] of faces) {
      const n = unit(cross(sub(vertices[b], vertices[a]), sub(vertices[c], vertices[a])));
      for (const i of [a, b, c]) out.push(...vertices[i], ...n);
    }
    return new Float32Array(out);
  }
  function capsule(radius, half) {
    const out = [], around = 18, over = 6, rings = [];
    for (let side = -1; side <= 1; side += 2) {
      for (let k = 0; k <= over; k++) {
        const a = (Math.PI / 2) * (side < 0 ? k / over - 1 : k / over);
        rings.push([Math.cos(a), Math.sin(a), side * half]);
      }
    }
    const point = ([c, s, z], i) => {
      const phi = (2 * Math.PI * i) / around, n = [c * Math.cos(phi), c * Math.sin(phi), s];
      return [n[0] * radius, n[1] * radius, n[2] * radius + z, ...n];
    };
    for (let r = 0; r + 1 < rings.length; r++) {
      for (let i = 0; i < around; i++) {
        const [p, q, s, t] = [point(rings[r], i), point(rings[r], i + 1), point(rings[r + 1], i), point(rings[r + 1], i + 1)];
        out.push(...p, ...q, ...t, ...p, ...t, ...s);
      }
    }
    return new Float32Array(out);
  }
  function box([x, y, z]) {
    const v = [];
    for (const a of [-x, x]) for (const b of [-y, y]) for (const c of [-z, z]) v.push([a, b, c]);
    const quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]];
    return triangles(v, quads.flatMap(([a, b, c, d]) => [[a, b, c], [a, c, d]]));
  }
  function disc(radius) {
    const v = [[0, 0, 0]], f = [], n = 48;
    for (let i = 0; i < n; i++) v.push([radius * Math.cos((2 * Math.PI * i) / n), radius * Math.sin((2 * Math.PI * i) / n), 0]);
    for (let i = 0; i < n; i++) f.push([0, 1 + i, 1 + ((i + 1) % n)]);
    return triangles(v, f);
  }
  function surface(object) {
    const raw = new Int16Array(bytes(object.vertices)), index = new Uint16Array(bytes(object.faces));
    const v = [], f = [];
    for (let i = 0; i < raw.length; i += 3) v.push([raw[i], raw[i + 1], raw[i + 2]].map((x) => x * object.unit));
    for (let i = 0; i < index.length; i += 3) f.push([index[i], index[i + 1], index[i + 2]]);
    return triangles(v, f);
  }

  // Where everything is
  function decode(trial) {
    const raw = new Int16Array(bytes(trial.moments)), moments = [];
    for (let i = 0; i < trial.count; i++) {
      const row = Array.from(raw.subarray(i * ROW, (i + 1) * ROW));
      moments.push({
        origin: row.slice(0, 3).map((x) => x * LENGTH), rise: row[3] * LENGTH, time: row[4] / 1e3,
        rotation: fromQuaternion(row.slice(5, 9).map((x) => x / UNIT)), joints: row.slice(9).map((x) => x * ANGLE),
      });
    }
    return moments;
  }
  function primitives(hand, palm, joints) {  // poses of the hand's primitives in the world
    const turns = [palm.slice(0, 9)], places = [palm.slice(9, 12)];
    joints.forEach((angle, k) => {
      const p = hand.parent[k + 1];
      turns.push(mul(turns[p], mul(hand.rotation[k], turnAbout(hand.axis[k], angle))));
      places.push(add(places[p], apply(turns[p], hand.translation[k])));
    });
    return hand.primitives.map((s) => ({
      link: hand.links[s.link], rotation: mul(turns[s.link], s.rotation),
      place: add(places[s.link], apply(turns[s.link], s.translation)),
    }));
  }

  const VERTEX = `attribute vec3 position; attribute vec3 normal; uniform mat4 view, model; varying vec3 n;
    void main() { n = mat3(model) * normal; gl_Position = view * model * vec4(position, 1.0); }`;
  const FRAGMENT = `precision mediump float; uniform vec4 color; uniform vec3 light; varying vec3 n;
    void main() { float d = abs(dot(normalize(n), light)); gl_FragColor = vec4(color.rgb * (0.45 + 0.6 * d), color.a); }`;

  function program(gl) {
    const p = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const s = gl.createShader(kind);
      gl.shaderSource(s, text);
      gl.compileShader(s);
      if (!gl.getShaderParameter(s, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(s));
      gl.attachShader(p, s);
    }
    gl.linkProgram(p);
    return p;
  }

  /* Draws one moment of one trial into a canvas of its own; `canvas` holds the picture afterwards. */
  class Painter {
    constructor(scenes) {
      this.scenes = scenes;
      this.canvas = document.createElement("canvas");
      const gl = this.gl = this.canvas.getContext("webgl", { alpha: true, antialias: true, preserveDrawingBuffer: true });
      if (!gl) throw new Error("no WebGL");
      this.program = program(gl);
      this.buffers = new Map();
      this.at = {};
      for (const name of ["view", "model", "color", "light"]) this.at[name] = gl.getUniformLocation(this.program, name);
      this.position = gl.getAttribLocation(this.program, "position");
      this.normal = gl.getAttribLocation(this.program, "normal");
    }
    shape(key, make) {
      const gl = this.gl;
      if (!this.buffers.has(key)) {
        const data = make(), buffer = gl.createBuffer();
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
        this.buffers.set(key, { buffer, count: data.length / 6 });
      }
      return this.buffers.get(key);
    }
    draw(shape, rotation, place, color, alpha = 1) {
      const gl = this.gl, m = rotation;
      gl.bindBuffer(gl.ARRAY_BUFFER, shape.buffer);
      gl.enableVertexAttribArray(this.position);
      gl.enableVertexAttribArray(this.normal);
      gl.vertexAttribPointer(this.position, 3, gl.FLOAT, false, 24, 0);
      gl.vertexAttribPointer(this.normal, 3, gl.FLOAT, false, 24, 12);
      gl.uniformMatrix4fv(this.at.model, false,
        [m[0], m[3], m[6], 0, m[1], m[4], m[7], 0, m[2], m[5], m[8], 0, ...place, 1]);
      gl.uniform4f(this.at.color, ...color, alpha);
      gl.drawArrays(gl.TRIANGLES, 0, shape.count);
    }
    /* camera: {azimuth, height (rad), zoom}; moment: as from decode(), or null for the grasp as commanded */
    paint(id, moment, camera, width, height, glass) {
      const { hand, trials, objects } = this.scenes, trial = trials[id], object = objects[trial.object], gl = this.gl;
      if (this.canvas.width !== width) this.canvas.width = width;
      if (this.canvas.height !== height) this.canvas.height = height;
      const up = object ? object.up : [0, 0, 1], center = object ? object.center : [0, 0, 0];
      const at = moment || { origin: [0, 0, 0], rotation: EYE, rise: 0, joints: trial.joints };
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.enable(gl.DEPTH_TEST);
      gl.useProgram(this.program);
      this.look(trial, object, up, center, camera, width / height);
      gl.disable(gl.BLEND);
      if (object && trial.lifted) {
        const middle = sub(center, scale(up, dot(center, up) - object.floor + at.rise + 0.001));
        this.draw(this.shape("floor" + trial.object, () => disc(0.6 * object.size)), alongZ(up), middle, COLORS.floor);
      }
      const touching = new Set(moment ? trial.links : []);
      primitives(hand, trial.palm, at.joints).forEach((pose, k) => {
        const s = hand.primitives[k];
        const shape = this.shape("hand" + k, () => (s.radius ? capsule(s.radius, s.half[2]) : box(s.half)));
        this.draw(shape, pose.rotation, pose.place, touching.has(pose.link) ? COLORS.touching : COLORS.hand);
      });
      if (object) {
        if (glass) { gl.enable(gl.BLEND); gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA); gl.depthMask(false); }
        this.draw(this.shape("object" + trial.object, () => surface(object)), at.rotation, at.origin, COLORS.object, glass ? 0.4 : 1);
        gl.depthMask(true);
        gl.disable(gl.BLEND);
      }
      if (moment && moment.held) {
        gl.disable(gl.DEPTH_TEST);
        for (const p of trial.contacts) this.draw(this.shape("contact", () => capsule(0.003, 0)), EYE, p, COLORS.contact);
      }
    }
    look(trial, object, up, center, camera, aspect) {
      const gl = this.gl, palm = trial.palm.slice(9, 12), fingers = [2, 5, 8].map((i) => trial.palm[i]);
      const middle = scale(add(center, add(palm, scale(fingers, 0.1))), 0.5);
      const reach = Math.hypot(...sub(center, palm)) + (object ? object.size : 0.1) + 0.1;
      const frame = alongZ(up), c = Math.cos(camera.height);
      const away = apply(frame, [c * Math.cos(camera.azimuth), c * Math.sin(camera.azimuth), Math.sin(camera.height)]);
      const distance = (1.1 * reach) / camera.zoom / Math.min(1, aspect), eye = add(middle, scale(away, distance));
      const z = away, x = unit(cross(up, z)), y = cross(z, x), near = 0.02, far = distance + 3;
      const f = 1 / Math.tan(0.35), a = (far + near) / (near - far), b = (2 * far * near) / (near - far);
      const t = [-dot(x, eye), -dot(y, eye), -dot(z, eye)], g = f / aspect;
      gl.uniformMatrix4fv(this.at.view, false, [
        g * x[0], f * y[0], a * z[0], -z[0], g * x[1], f * y[1], a * z[1], -z[1],
        g * x[2], f * y[2], a * z[2], -z[2], g * t[0], f * t[1], a * t[2] + b, -t[2]]);
      gl.uniform3f(this.at.light, ...unit(add(away, add(scale(y, 0.5), scale(x, 0.3)))));
    }
  }

  /* Where to look from first: from before the palm and a little from the thumb's side, never from below. */
  function start(scenes, id) {
    const trial = scenes.trials[id], object = scenes.objects[trial.object];
    const frame = alongZ(object ? object.up : [0, 0, 1]), towards = apply(trial.palm.slice(0, 9), unit([0.6, -1, 0.2]));
    const [x, y, z] = [0, 1, 2].map((i) => dot(towards, [frame[i], frame[3 + i], frame[6 + i]]));
    return { azimuth: Math.atan2(y, x), height: Math.max(0.25, Math.min(0.9, Math.asin(Math.max(-1, Math.min(1, z))))), zoom: 1 };
  }

  /* The panel: a canvas to turn by pointer, keys or buttons, the moments of a trial, and what is seen in words. */
  class Panel {
    constructor(root, scenes, painter, describe) {
      Object.assign(this, { scenes, painter, describe, pointers: new Map(), timer: 0 });
      this.find = (name) => root.querySelector(`[data-part=${name}]`);
      this.canvas = this.find("canvas");
      this.slider = this.find("slider");
      this.find("play").addEventListener("click", () => (this.timer ? this.stop() : this.play()));
      this.find("glass").addEventListener("change", () => this.paint());
      this.find("reset").addEventListener("click", () => { this.camera = start(scenes, this.id); this.paint(); });
      for (const name of ["commanded", "held", "end"]) this.find(name).addEventListener("click", () => { this.stop(); this.go(name); });
      this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      this.canvas.addEventListener("pointerdown", (event) => {
        this.canvas.setPointerCapture(event.pointerId);
        this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
      });
      for (const kind of ["pointerup", "pointercancel"]) this.canvas.addEventListener(kind, (e) => this.pointers.delete(e.pointerId));
      this.canvas.addEventListener("pointermove", (event) => this.move(event));
      this.canvas.addEventListener("wheel", (event) => {
        if (document.activeElement !== this.canvas) return;  // else the page couldn't be scrolled past it
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 500));
      }, { passive: false });
      new ResizeObserver(() => this.paint()).observe(this.canvas);
    }
    show(id) {
      this.stop();
      this.id = id;
      this.camera = start(this.scenes, id);
      this.moments = decode(this.scenes.trials[id]);
      const held = this.scenes.trials[id].held;
      if (held !== null) this.moments[held].held = true;
      this.slider.max = Math.max(0, this.moments.length - 1);
      for (const name of ["slider", "play", "end"]) this.find(name).disabled = !this.moments.length;
      this.find("held").disabled = held === null;
      this.find("note").textContent = this.scenes.trials[id].note;
      this.go(held === null ? "commanded" : "held");
    }
    go(where) {  // "commanded", "held", "end" or the index of a moment
      const held = this.scenes.trials[this.id].held, last = this.moments.length - 1;
      this.index = where === "commanded" ? -1 : where === "held" ? held : where === "end" ? last : where;
      if (this.index >= 0) this.slider.value = this.index;
      for (const [name, index] of [["commanded", -1], ["held", held], ["end", last]]) {
        this.find(name).setAttribute("aria-pressed", String(!this.find(name).disabled && this.index === index));
      }
      const time = this.index < 0 ? "the grasp as commanded, before any motion"
        : `${this.index === held ? "squeeze complete, as achieved" : this.index === last ? "the end" : "on its way"}, ${this.moments[this.index].time.toFixed(2)} s`;
      this.slider.setAttribute("aria-valuetext", time);
      const words = `${this.describe(this.id)}: ${time}`;
      this.find("words").textContent = words;
      this.canvas.setAttribute("aria-label", `3D view. ${words}. Arrow keys turn it, plus and minus zoom.`);
      this.paint();
    }
    play() {
      if (this.index >= this.moments.length - 1) this.go(0);
      this.find("play").textContent = "Pause";
      const step = () => {
        if (this.index >= this.moments.length - 1) return this.stop();
        const before = this.index < 0 ? 0 : this.moments[this.index].time;
        this.go(this.index + 1);
        const wait = 1e3 * (this.moments[this.index].time - before);
        this.timer = setTimeout(step, Math.min(200, Math.max(20, wait)));
      };
      this.timer = setTimeout(step, 0);
    }
    stop() {
      clearTimeout(this.timer);
      this.timer = 0;
      this.find("play").textContent = "Play";
    }
    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return; // the browser's own
      const turn = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
      if (turn) this.turn(...turn);
      else if (event.key === "+" || event.key === "=") this.zoom(1.15);
      else if (event.key === "-") this.zoom(1 / 1.15);
      else return;
      event.preventDefault();
    }
    move(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      if (others.length) this.zoom(Math.hypot(...sub(now, others[0])) / (Math.hypot(...sub(before, others[0])) || 1));
      else this.turn((before[0] - now[0]) / 120, (now[1] - before[1]) / 120);
      this.pointers.set(event.pointerId, now);
    }
    turn(azimuth, height) {
      this.camera.azimuth += azimuth;
      this.camera.height = Math.max(-1.5, Math.min(1.5, this.camera.height + height));
      this.paint();
    }
    zoom(factor) {
      this.camera.zoom = Math.max(0.3, Math.min(8, this.camera.zoom * factor));
      this.paint();
    }
    paint() {
      if (this.id === undefined) return;
      const ratio = Math.min(2, window.devicePixelRatio || 1), box = this.canvas.getBoundingClientRect();
      const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
      this.painter.paint(this.id, this.index < 0 ? null : this.moments[this.index], this.camera, width, height, this.find("glass").checked);
      copy(this.painter, this.canvas);
    }
  }
  function copy(painter, canvas) {
    canvas.width = painter.canvas.width;
    canvas.height = painter.canvas.height;
    canvas.getContext("2d").drawImage(painter.canvas, 0, 0);
  }
  function thumbnail(painter, id, canvas) {
    const moments = decode(painter.scenes.trials[id]);
    painter.paint(id, moments.length ? moments[moments.length - 1] : null, start(painter.scenes, id), 240, 240, false);
    copy(painter, canvas);
  }
  return { Painter, Panel, thumbnail, primitives };
})();
